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
export interface Recent {
  items: {
    id: string;
    topic: string | null;
    time: number;
    messages: number;
    failed: number;
    state: string | null;
  }[];
  begun: number;
  more: boolean;
}
