import { useEffect, useState } from "preact/hooks";
import { defineWidget, ErrorLine, formatCount, StateBadge, useMessages, useModel } from "../lib";
import "./dashboard.css";

interface Counts {
  backend: string | null;
  events: number;
  messages: number;
  states: [state: string, count: number][];
  dropped: number;
  /** Servers that ended with an error. */
  ended: { place: string; error: string }[];
}

/** The line on top of the dashboard: how many messages are in which state. */
function Dashboard() {
  const model = useModel();
  const [counts, setCounts] = useState<Counts | null>(null);
  useMessages<{ value: Counts }>("counts", (message) => setCounts(message.value));
  useEffect(() => void model.request<Counts>("counts").then(setCounts), [model]);
  if (counts === null) return null;
  return (
    <>
      <div class="mv-bar mv-dashboard-line">
        <b data-testid="messages">{formatCount(counts.messages, "message")}</b>
        {counts.states.map(([state, count]) => (
          <span key={state} data-testid={`count-${state}`}>
            <StateBadge state={state} count={count} />
          </span>
        ))}
        <span class="mv-fill" />
        <span class="mv-dim" data-testid="events">
          {formatCount(counts.events, "event")}
          {counts.backend ? `, ${counts.backend}` : ""}
        </span>
        {counts.dropped ? (
          <span class="mv-dashboard-dropped" data-testid="dropped">
            {formatCount(counts.dropped, "older event")} dropped
          </span>
        ) : null}
      </div>
      {counts.ended.map(({ place, error }, index) => (
        <ErrorLine key={index} testid="ended">
          The server of {place} has ended: {error}. Start it again to go on.
        </ErrorLine>
      ))}
    </>
  );
}

export default defineWidget("dashboard", Dashboard);
