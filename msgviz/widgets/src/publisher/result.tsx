import { ErrorLine, formatCount, formatDuration, formatSize, formatTime } from "../lib";
import { MessageId } from "../lib/message";
import type { Result } from "./form";

/** What became of the last click of Publish. */
export function ResultLine({ result }: { result: Result }) {
  const { status, done, total, topic, error } = result;
  const share = `${done.toLocaleString("en")} of ${total.toLocaleString("en")}`;
  if (status === "failed") {
    return (
      <ErrorLine testid="publish-error">
        {total === 1 ? "Not published. " : `Published ${share}, then it failed. `}
        <span class="mv-code">{error?.type}</span>
        {error?.text ? `: ${error.text}` : null} <span class="mv-dim">{formatTime(result.time)}</span>
      </ErrorLine>
    );
  }
  const stopped = status === "stopped";
  return (
    <div class="mv-publisher-result" role="status" data-testid="result">
      <span class={`mv-state mv-tone-${stopped ? "idle" : "good"}`} data-state={status}>
        {stopped ? "stopped" : "published"}
      </span>
      {result.message_id === null || total > 1 ? null : <MessageId id={result.message_id} testid="message-id" />}
      <span class="mv-dim">
        {total === 1 ? null : `${stopped ? `${done.toLocaleString("en")} of ` : ""}${formatCount(total, "message")} `}
        to <bdi>{topic}</bdi>, {formatSize(result.size)}
        {total === 1 ? null : ` each, in ${formatDuration(result.seconds)}`}, {formatTime(result.time)}
      </span>
      {result.message_id === null || total === 1 ? null : (
        <span class="mv-dim">
          last: <MessageId id={result.message_id} testid="message-id" />
        </span>
      )}
    </div>
  );
}

export function Progress({ result }: { result: Result }) {
  return (
    <div class="mv-publisher-progress">
      <progress max={result.total} value={result.total === 1 ? undefined : result.done} aria-label="Published" />
      <span class="mv-dim" data-testid="progress">
        {result.total === 1
          ? "publishing…"
          : `${result.done.toLocaleString("en")} of ${result.total.toLocaleString("en")}`}
      </span>
    </div>
  );
}
