import { useEffect, useState } from "preact/hooks";
import { AttributeList, BodyView, Button, ErrorLine, formatCount, formatTime, StateBadge, useModel } from "../lib";
import { EditForm } from "./edit";
import type { Case, Check, Edit, Step } from "./types";

interface Props {
  caseKey: number;
  version: number;
  place: string;
}

/** One failed message: why it failed, what it is, what was sent again for it, and what can be done. */
export function CaseView({ caseKey, version, place }: Props) {
  const model = useModel();
  const [found, setFound] = useState<Case | null | undefined>();
  const [check, setCheck] = useState<Check | null>(null);
  const [editing, setEditing] = useState<Case | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    let stale = false;
    void model.request<Case | null>("case", { key: caseKey }).then((answer) => stale || setFound(answer));
    void model
      .request<Check>("check", { keys: [caseKey] })
      .then((answer) => stale || setCheck(answer));
    return () => {
      stale = true;
    };
  }, [model, caseKey, version]);

  const send = (edit: Edit | null): void => {
    setProblem(null);
    model
      .request("replay", { keys: [caseKey], edit })
      .then(() => setEditing(null))
      .catch((error: Error) => setProblem(error.message));
  };

  if (found === undefined) return <div class="mv-replayer-case" />;
  if (found === null) {
    return <div class="mv-replayer-case mv-dim">The log does not have this message any more.</div>;
  }
  const refused = check?.ready === 0 ? check.reasons[0]?.reason : undefined;
  return (
    <div class="mv-replayer-case" data-testid="detail">
      <div class="mv-replayer-why">
        <span class="mv-code" data-testid="error-text">
          <b>{found.errorType}</b>
          {found.error ? `: ${found.error}` : ""}
        </span>
        <span class="mv-dim">
          after {formatCount(found.attempts, "attempt")} at {place}
        </span>
      </div>
      {found.traceback ? (
        <details class="mv-replayer-trace">
          <summary data-testid="traceback">Traceback</summary>
          <pre class="mv-code">{found.traceback}</pre>
        </details>
      ) : null}
      {editing ? (
        <EditForm original={editing} place={place} problem={problem} onSend={send} onCancel={() => setEditing(null)} />
      ) : (
        <>
          <div class="mv-replayer-parts">
            <div>
              <div class="mv-label">Body</div>
              <BodyView body={found.body} />
            </div>
            <div>
              <div class="mv-label">Attributes</div>
              <AttributeList attributes={found.attributes} />
            </div>
          </div>
          <div class="mv-bar mv-replayer-actions">
            <Button
              kind="primary"
              testid="replay-one"
              disabled={check === null || refused !== undefined}
              onClick={() => send(null)}
            >
              Replay
            </Button>
            <Button testid="edit" disabled={refused !== undefined || found.locked !== undefined} onClick={() => setEditing(found)}>
              Edit and replay…
            </Button>
            <span class="mv-dim mv-fill">
              {refused === undefined ? `Goes to ${place} alone.` : null}
              {refused === undefined && found.locked ? ` ${found.locked}` : null}
            </span>
          </div>
          {refused === undefined ? null : (
            <div class="mv-replayer-note" data-testid="refused">
              It cannot be replayed: {refused}.
            </div>
          )}
          {problem ? <ErrorLine testid="case-error">{problem}</ErrorLine> : null}
        </>
      )}
      {found.history.length > 1 ? <History found={found} /> : null}
    </div>
  );
}

function History({ found }: { found: Case }) {
  return (
    <div class="mv-replayer-history" data-testid="history">
      <div class="mv-label">History</div>
      {found.earlier ? <div class="mv-dim">{formatCount(found.earlier, "earlier replay")}</div> : null}
      <ol>
        {found.history.map((step) => (
          <HistoryStep key={step.messageId} step={step} />
        ))}
      </ol>
    </div>
  );
}

function HistoryStep({ step }: { step: Step }) {
  if (step.dropped) {
    return (
      <li class="mv-dim">
        <span class="mv-code">{step.messageId}</span> was dropped by the log
      </li>
    );
  }
  return (
    <li data-testid="step">
      <div class="mv-replayer-step">
        <span class="mv-dim">{formatTime(step.time)}</span>
        <b>{step.original ? "Original" : step.changes.length ? "Edited and replayed" : "Replayed as it was"}</b>
        <span class="mv-code mv-dim">{step.messageId}</span>
        {step.original ? null : <StateBadge state={step.state} />}
        {step.error ? <span class="mv-code mv-replayer-text">{step.error}</span> : null}
      </div>
      {step.changes.map((change) => (
        <div key={change.name} class="mv-replayer-diff" data-testid="difference">
          <div class="mv-dim">{change.name}, against the original</div>
          {change.lines.map(([sign, text], index) => (
            <div key={index} class="mv-code" data-sign={sign}>
              <span class="mv-replayer-sign">{sign}</span>
              <span>{text}</span>
            </div>
          ))}
        </div>
      ))}
    </li>
  );
}
