import { Button, formatCount, useModel } from "../lib";
import type { Outcome, Run, RunRow } from "./types";

const WORDS: Record<Outcome, [tone: string, words: string]> = {
  ok: ["good", "resolved"],
  dead: ["bad", "failed again"],
  failed: ["bad", "not sent"],
  skipped: ["idle", "skipped"],
  dropped: ["idle", "dropped by the log"],
  under_way: ["info", "under way"],
};

/** How the replays that were started last are going, and how each ended. */
export function RunView({ run }: { run: Run }) {
  const model = useModel();
  const problems = run.rows.filter((row) => row.outcome !== "ok");
  return (
    <div class="mv-replayer-run" data-testid="run" data-running={run.running}>
      <div class="mv-bar">
        <b>
          {run.running
            ? `Replaying ${run.done.toLocaleString("en")} of ${run.total.toLocaleString("en")}`
            : run.stopped && run.done < run.total
              ? `Stopped after ${run.done.toLocaleString("en")} of ${run.total.toLocaleString("en")}`
              : `Replayed ${formatCount(run.total, "message")}${run.edited ? ", edited" : ""}`}
        </b>
        {run.running ? (
          <progress class="mv-fill" max={run.total} value={run.done} aria-label="Replays sent" />
        ) : (
          <span class="mv-fill" />
        )}
        <span class="mv-replayer-outcomes" role="status" data-testid="outcomes">
          {(Object.keys(WORDS) as Outcome[]).map((outcome) => {
            const count = run.counts[outcome];
            return count ? <Badge key={outcome} outcome={outcome} count={count} /> : null;
          })}
        </span>
        {run.running ? (
          <Button kind="danger" testid="stop" onClick={() => model.send("stop")}>
            Stop
          </Button>
        ) : (
          <Button kind="quiet" testid="forget" label="Close" onClick={() => model.send("forget")}>
            ×
          </Button>
        )}
      </div>
      {problems.length || run.rows.length <= 5 ? (
        <ul class="mv-replayer-results">
          {(run.rows.length <= 5 ? run.rows : problems).map((row) => (
            <Result key={row.number} row={row} />
          ))}
          {run.more ? <li class="mv-dim">and {run.more.toLocaleString("en")} more</li> : null}
        </ul>
      ) : null}
    </div>
  );
}

function Result({ row }: { row: RunRow }) {
  return (
    <li data-testid="result" data-outcome={row.outcome}>
      <Badge outcome={row.outcome} />
      <span class="mv-code mv-replayer-id" title={row.messageId}>
        {row.messageId}
      </span>
      <span class="mv-replayer-text">
        {row.subscription ? <span class="mv-dim">{row.subscription} </span> : null}
        {row.reason}
      </span>
    </li>
  );
}

function Badge({ outcome, count }: { outcome: Outcome; count?: number }) {
  const [tone, words] = WORDS[outcome];
  return (
    <span class={`mv-state mv-tone-${tone}`}>
      {words}
      {count === undefined ? null : <span class="mv-count">{count.toLocaleString("en")}</span>}
    </span>
  );
}
