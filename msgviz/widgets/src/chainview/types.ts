import type { Item } from "../lib/picker";

/** One way of the message through a chain: out when it was published, in on each attempt to receive it. */
export interface Way {
  /** Its number in the ledger. */
  number: number;
  direction: "out" | "in";
  topic: string | null;
  subscription: string | null;
  attempt: number;
  time: number | null;
  outcome: string;
  /** The layer in which something first went wrong. */
  problem: string | null;
  /** Whether the system delivered the bytes it was given. */
  arrived: boolean | null;
  /** The layers it was not seen in, in the order it would meet them. */
  unreached: { depth: number; layer: string }[];
  size: number | null;
  /** Another one whenever the message got further. */
  version: number;
}

export interface AttributeChange {
  how: "added" | "removed" | "changed";
  key: string;
  before?: string[];
  after?: string[];
}

/** A message in one layer. */
export interface Step {
  path: string;
  depth: number;
  layer: string;
  /** Nothing comes after it: it is the system, or the receiver. */
  end: boolean;
  before: number;
  after: number | null;
  same: boolean;
  /** In this layer alone; null while the message is there, or further on. */
  seconds: number | null;
  outcome: string;
  attributes: AttributeChange[];
  more: number;
  passes: number;
  problem: string | null;
  notes: string[];
}

export interface Walk {
  message_id: string;
  missing?: undefined;
  state: string | null;
  topic: string | null;
  ways: Way[];
  older: number;
  /** Whether some of what the log observed was dropped since. */
  dropped: boolean;
  /** By the number of the way: those of the newest ways. */
  steps: Record<string, Step[]>;
  held: string | null;
}

export type Content =
  | { message_id: null; any: boolean }
  | { message_id: string; missing: string; state: string | null }
  | Walk;

/** A message whose layers were observed, to be chosen. */
export interface Observed extends Item {
  size: number | null;
  /** The layer in which something first went wrong. */
  problem: string | null;
}
