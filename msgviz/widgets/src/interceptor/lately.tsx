import { formatDuration, formatTime } from "../lib";
import { ENDINGS, type Past, placeOf } from "./types";

const SHOWN = 5;

/** What was held and went on, the newest first. */
export function Lately({ lately }: { lately: Past[] }) {
  if (lately.length === 0) return null;
  return (
    <div class="mv-interceptor-lately">
      <div class="mv-label">Held lately</div>
      <Rows lately={lately.slice(0, SHOWN)} />
      {lately.length > SHOWN ? (
        <details>
          <summary class="mv-dim" data-testid="more-lately">
            {lately.length - SHOWN} before these
          </summary>
          <Rows lately={lately.slice(SHOWN)} />
        </details>
      ) : null}
    </div>
  );
}

function Rows({ lately }: { lately: Past[] }) {
  return (
    <ul>
      {lately.map((past) => {
        const [said, tone] = ENDINGS[past.ended] ?? [past.ended, "idle"];
        return (
          <li key={past.number} data-testid="past" data-ended={past.ended}>
            <span class="mv-dim">{formatTime(past.time).slice(0, 8)}</span>
            <span class={`mv-state mv-tone-${tone} mv-interceptor-said`}>{said}</span>
            <span class="mv-interceptor-pastplace">
              {past.side} {placeOf(past)} <span class="mv-dim">before {past.layer}</span>
            </span>
            <span class="mv-code mv-dim mv-interceptor-id">{past.messageId}</span>
            <span class="mv-dim mv-interceptor-number">{formatDuration(past.lasted)}</span>
          </li>
        );
      })}
    </ul>
  );
}
