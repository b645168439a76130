/** What the kernel sends; see interceptor.py. */
import type { Body } from "../lib";

export type Side = "publish" | "receive";

export interface Breakpoint {
  number: number;
  condition: string;
  /** null: both. */
  side: Side | null;
  /** The name or the depth of a layer. */
  layer: string | number | null;
  /** Seconds. */
  timeout: number;
  hits: number;
  held: number;
  error: string | null;
  /** Whether it was set in this widget. */
  own: boolean;
}

export interface Held {
  number: number;
  breakpoint: number;
  messageId: string;
  side: Side;
  topic: string | null;
  subscription: string | null;
  layer: string;
  attempt: number;
  /** Epoch milliseconds, by the kernel's clock. */
  since: number;
  /** Seconds until it goes on by itself. */
  left: number;
  timeout: number;
  size: number;
  preview: string;
}

/** A message that was held and went on since. */
export interface Past {
  number: number;
  messageId: string;
  side: Side;
  topic: string | null;
  subscription: string | null;
  layer: string;
  time: number;
  ended: string;
  lasted: number;
}

export interface State {
  breakpoints: Breakpoint[];
  held: Held[];
  /** All that is held, of which `held` may be the first ones only. */
  numbers: number[];
  lately: Past[];
  layers: { name: string; sides: Side[] }[];
}

/** All of a held message, with its body as it can be edited: as text, as hex, or (locked) not at all. */
export interface Detail extends Held {
  next: string | null;
  attributes: Record<string, string[]>;
  body: Body;
  text?: string;
  crlf?: boolean;
  hex?: string;
  locked?: string;
}

export type Action = "continue" | "step" | "drop" | "fail";

export const placeOf = (held: { topic: string | null; subscription: string | null }): string =>
  [held.topic, held.subscription].filter((part) => part !== null).join("/") || "an unnamed topic";

/** How a held message went on, in words. */
export const ENDINGS: Record<string, [said: string, tone: string]> = {
  resumed: ["continued", "good"],
  edited: ["continued with an edit", "good"],
  dropped: ["dropped", "bad"],
  failed: ["failed by hand", "bad"],
  "timed out": ["timed out, went on by itself", "warn"],
  released: ["released: its server ended, or the breakpoint was removed", "warn"],
  cancelled: ["cancelled: who waited for it gave up", "idle"],
};
