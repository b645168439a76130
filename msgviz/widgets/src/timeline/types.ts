import type { Item } from "../lib/picker";

export type Content =
  | { message_id: null }
  | { message_id: string; missing: string }
  | {
      message_id: string;
      conversation: string;
      /** The number of the selected message in the conversation. */
      selected: string;
      messages: number;
      events: number;
      waterfall: boolean;
      picture: string;
    };

/** A conversation that may be chosen, by a message of it. */
export interface Conversation extends Item {
  messages: number;
  failed: number;
}
