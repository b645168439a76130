import type { Body } from "../lib";

/** Another message of the log; without a state the log no longer has it. */
export interface Link {
  id: string;
  state: string | null;
}

export interface Attempt {
  event_id: number;
  operation: "publish" | "receive";
  /** Only where it is another than the message's own. */
  topic: string | null;
  subscription: string | null;
  attempt: number;
  time: number;
  duration: number;
  outcome: string;
  error_type: string | null;
  error: string;
  /** There is more to read of the error: its traceback, or the rest of its text. */
  folded: boolean;
  /** Only where they differ from what was published. */
  attributes: Record<string, string[]> | null;
  body_differs: boolean;
}

export interface Detail {
  message_id: string;
  topic: string | null;
  state: string;
  published: number | null;
  latency: number | null;
  size: number;
  conversation: Link;
  parent: Link | null;
  children: Link[];
  children_count: number;
  replay_of: Link | null;
  replays: Link[];
  replays_count: number;
  attributes: Record<string, string[]>;
  attempts: Attempt[];
  attempts_count: number;
  /** Whether the log kept the body. */
  kept: boolean;
  replay: { ready: boolean; reason: string | null };
}

/** What the kernel says of the selected message. `body` is left out where it is still the same. */
export type Content =
  | { message_id: null }
  | { message_id: string; missing: string }
  | (Detail & { missing?: undefined; body?: Body | null });

/** What became of a click of Replay, one a subscription. */
export interface Replayed {
  subscription: string | null;
  status: string;
  reason: string | null;
  replay_id: string | null;
}
