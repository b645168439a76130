import { CopyButton } from "./copy";
import "./message.css";

/** The id of a message, to read and to copy. */
export function MessageId({ id, testid }: { id: string; testid?: string }) {
  return (
    <span class="mv-message-id">
      <span class="mv-code" data-testid={testid}>
        {id}
      </span>
      <CopyButton text={id} testid="copy-id" label="Copy the message id" />
    </span>
  );
}
