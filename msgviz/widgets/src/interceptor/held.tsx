import { Button, formatTime, Tabs } from "../lib";
import { moveLine } from "../lib/lines";
import { Countdown } from "./clock";
import { type Held, placeOf } from "./types";

interface Props {
  held: Held[];
  /** How many more there are than these. */
  more: number;
  selected: number | null;
  onSelect: (number: number) => void;
  /** Messages that are being edited, and of those the ones that have gone on meanwhile. */
  edited: Set<number>;
  gone: Held[];
}

/** The messages that are held, to choose from. */
export function HeldList({ held, more, selected, onSelect, edited, gone }: Props) {
  return (
    <div
      class="mv-interceptor-list"
      role="list"
      aria-label="Held messages"
      data-testid="held-list"
      onKeyDown={(event) => moveLine(event)?.click()}
    >
      {gone.map((one) => (
        <Line key={one.number} one={one} selected={selected === one.number} onSelect={onSelect} edited gone />
      ))}
      {held.map((one) => (
        <Line
          key={one.number}
          one={one}
          selected={selected === one.number}
          onSelect={onSelect}
          edited={edited.has(one.number)}
        />
      ))}
      {more ? <div class="mv-interceptor-more mv-dim">and {more.toLocaleString("en")} more</div> : null}
      {held.length || gone.length ? null : (
        <div class="mv-interceptor-more mv-dim" data-testid="none-held" role="status">
          No message is held. The next one that matches waits here.
        </div>
      )}
    </div>
  );
}

interface LineProps {
  one: Held;
  selected: boolean;
  onSelect: (number: number) => void;
  edited: boolean;
  gone?: boolean;
}

function Line({ one, selected, onSelect, edited, gone }: LineProps) {
  return (
    <div role="listitem">
      <button
        type="button"
        class={`mv-interceptor-line${selected ? " mv-interceptor-selected" : ""}`}
        aria-current={selected}
        data-line
        data-testid={gone ? "gone-line" : "held"}
        data-number={one.number}
        data-message={one.messageId}
        onClick={() => onSelect(one.number)}
      >
        <span class="mv-interceptor-place">
          {one.side} <b>{placeOf(one)}</b>
        </span>
        {gone ? <span class="mv-interceptor-left">gone on</span> : <Countdown held={one} />}
        <span class="mv-interceptor-preview mv-code">{one.preview || <i class="mv-dim">empty</i>}</span>
        <span class="mv-interceptor-about mv-dim">
          {edited ? <b>edited · </b> : null}
          {formatTime(one.since).slice(0, 8)}
          {one.attempt > 1 ? ` · attempt ${one.attempt}` : ""} · before {one.layer}
        </span>
      </button>
    </div>
  );
}

/** How many are held, in what order they stand, and the button that lets all go. */
export function HeldHead(props: { count: number; newestFirst: boolean; onOrder: (newest: boolean) => void; onAll: () => void }) {
  const { count, newestFirst, onOrder, onAll } = props;
  return (
    <div class="mv-bar mv-interceptor-head">
      <b class="mv-interceptor-count" data-testid="count">
        {count.toLocaleString("en")} held
      </b>
      <Tabs
        label="Which comes first"
        tabs={[
          { value: false, name: "Oldest", title: "The oldest first", testid: "oldest" },
          { value: true, name: "Newest", title: "The newest first", testid: "newest" },
        ]}
        chosen={newestFirst}
        onChoose={onOrder}
      />
      <Button testid="continue-all" disabled={count === 0} onClick={onAll}>
        Continue all
      </Button>
    </div>
  );
}
