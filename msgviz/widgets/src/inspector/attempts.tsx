import { useState } from "preact/hooks";
import { AttributeList, ErrorLine, formatCount, formatDuration, formatTime, StateBadge, useModel } from "../lib";
import type { Attempt, Detail } from "./types";

const NEXT: Record<string, string> = {
  pending: "Not received yet.",
  in_flight: "Being received now…",
  retrying: "Will be delivered again.",
};

/** Each publish and receive of the message, in the order they began. */
export function Attempts({ detail }: { detail: Detail }) {
  const { attempts, attempts_count: count, published } = detail;
  const received = attempts.filter(({ operation }) => operation === "receive").length;
  const next = NEXT[detail.state];
  return (
    <section class="mv-inspector-attempts" aria-label="Attempts">
      <h4>
        Attempts <span class="mv-count">{received || ""}</span>
      </h4>
      {count > attempts.length ? (
        <div class="mv-dim">
          The last {attempts.length} of {formatCount(count, "event")}.
        </div>
      ) : null}
      <ol data-testid="attempts">
        {attempts.map((attempt) => (
          <Line key={attempt.event_id} attempt={attempt} id={detail.message_id} start={published} />
        ))}
        {next ? (
          <li class="mv-dim" data-testid="next">
            <div class="mv-inspector-where">{next}</div>
          </li>
        ) : null}
      </ol>
    </section>
  );
}

function Line({ attempt, id, start }: { attempt: Attempt; id: string; start: number | null }) {
  const publish = attempt.operation === "publish";
  const failed = attempt.error_type !== null;
  return (
    <li data-testid="attempt" data-outcome={attempt.outcome}>
      <div class="mv-inspector-attempt">
        <StateBadge state={attempt.outcome} />
        <span class="mv-inspector-where">
          {publish ? "published" : <bdi>{attempt.subscription ?? "received"}</bdi>}
          {attempt.topic === null ? null : (
            <span class="mv-dim">
              {" "}
              on <bdi>{attempt.topic}</bdi>
            </span>
          )}
          {publish ? null : <span class="mv-dim"> attempt {attempt.attempt}</span>}
        </span>
        <span class="mv-inspector-time" title={formatTime(attempt.time, true)}>
          {publish || start === null || attempt.time < start
            ? formatTime(attempt.time)
            : `+${formatDuration((attempt.time - start) / 1000)}`}
        </span>
        <span class="mv-inspector-time mv-dim" title="How long it took">
          {formatDuration(attempt.duration)}
        </span>
      </div>
      {failed ? <Failure key={`${id} ${attempt.event_id}`} attempt={attempt} id={id} /> : null}
      {attempt.attributes === null ? null : (
        <details class="mv-inspector-fold">
          <summary>with other attributes</summary>
          <AttributeList attributes={attempt.attributes} />
        </details>
      )}
      {attempt.body_differs ? <div class="mv-dim">with another body than was published</div> : null}
    </li>
  );
}

interface Whole {
  error: string | null;
  traceback: string | null;
}

function Failure({ attempt, id }: { attempt: Attempt; id: string }) {
  const model = useModel();
  const [open, setOpen] = useState(false);
  const [whole, setWhole] = useState<Whole | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const toggle = (): void => {
    setOpen(!open);
    if (open || whole !== null) return;
    setProblem(null);
    model
      .request<Whole>("error", { message_id: id, event_id: attempt.event_id })
      .then(setWhole)
      .catch((error: Error) => setProblem(error.message));
  };
  return (
    <div class="mv-inspector-failure">
      <div class="mv-inspector-error" data-testid="attempt-error">
        <span class="mv-code">{attempt.error_type}</span>
        {attempt.error ? `: ${attempt.error}` : ""}
      </div>
      {attempt.folded ? (
        <button
          type="button"
          class="mv-inspector-toggle"
          aria-expanded={open}
          data-testid="traceback-toggle"
          onClick={toggle}
        >
          Traceback
        </button>
      ) : null}
      {open && problem !== null ? <ErrorLine>{problem}</ErrorLine> : null}
      {open && whole !== null ? (
        <pre class="mv-inspector-traceback" data-testid="traceback" tabIndex={0}>
          {whole.traceback ?? whole.error}
        </pre>
      ) : null}
    </div>
  );
}
