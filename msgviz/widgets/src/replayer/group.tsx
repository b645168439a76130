import { useEffect, useState } from "preact/hooks";
import { Button, formatTime, StateBadge, useModel } from "../lib";
import { CaseView } from "./case";
import { countOf, has, type Selection } from "./selection";
import { type Filter, type Group, isOpen, placeOf, type Row } from "./types";

const PAGE = 20;

interface Props {
  group: Group;
  filter: Filter;
  selection: Selection;
  onToggle: (key: number) => void;
  onAll: (all: boolean) => void;
  opened: number | null;
  onOpen: (key: number) => void;
  startsOpen: boolean;
}

/** One error at one place, and the messages that failed with it. */
export function GroupView({ group, filter, selection, onToggle, onAll, opened, onOpen, startsOpen }: Props) {
  const [open, setOpen] = useState(startsOpen);
  const selected = countOf(selection, group.key, group.open);
  const all = selected > 0 && selected === group.open;
  return (
    <section class="mv-replayer-group" data-testid="group" data-error={group.errorType}>
      <div class="mv-replayer-head">
        <Checkbox
          testid="group-select"
          label={`Select all of ${group.errorType} at ${placeOf(group)}`}
          checked={all}
          partly={selected > 0 && !all}
          disabled={group.open === 0}
          onChange={() => onAll(!all)}
        />
        <button
          type="button"
          class="mv-replayer-title"
          data-line
          data-testid="group-open"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
        >
          <span class="mv-replayer-arrow" aria-hidden="true" />
          <span class="mv-replayer-what">
            <b class="mv-code" title={group.errorType}>
              {withoutModule(group.errorType)}
            </b>
            <span class="mv-replayer-where">{placeOf(group)}</span>
          </span>
          <span class="mv-replayer-counts">
            {Object.entries(group.counts).map(([status, count]) => (
              <StateBadge key={status} state={status} count={count} />
            ))}
          </span>
          <span
            class="mv-dim mv-replayer-time"
            title={`First ${formatTime(group.first, true)}, last ${formatTime(group.last, true)}, ${group.failures} failed attempts`}
          >
            {sameSecond(group) ? "" : `${clock(group.first)} – `}
            {clock(group.last)}
          </span>
          <span class="mv-replayer-said mv-code">{group.error || <i class="mv-dim">no text</i>}</span>
        </button>
      </div>
      {open ? (
        <Rows
          group={group}
          filter={filter}
          isSelected={(key) => has(selection, group.key, key)}
          onToggle={onToggle}
          opened={opened}
          onOpen={onOpen}
        />
      ) : null}
    </section>
  );
}

const withoutModule = (errorType: string): string => errorType.replace(/^(?:\w+\.)+(?=\w)/, "");
const clock = (epoch: number): string => formatTime(epoch).slice(0, 8);
const sameSecond = (group: Group): boolean => clock(group.first) === clock(group.last);

interface RowsProps {
  group: Group;
  filter: Filter;
  isSelected: (key: number) => boolean;
  onToggle: (key: number) => void;
  opened: number | null;
  onOpen: (key: number) => void;
}

function Rows({ group, filter, isSelected, onToggle, opened, onOpen }: RowsProps) {
  const model = useModel();
  const [count, setCount] = useState(PAGE);
  const [page, setPage] = useState<{ rows: Row[]; more: number }>({ rows: [], more: 0 });
  useEffect(() => {
    let stale = false;
    void model
      .request<{ rows: Row[]; more: number }>("rows", { group: group.key, filter, count })
      .then((answer) => stale || setPage(answer));
    return () => {
      stale = true;
    };
  }, [model, group.key, group.version, filter, count]);
  return (
    <div class="mv-replayer-rows" role="list">
      {page.rows.map((row) => (
        <div key={row.key} role="listitem" class="mv-replayer-item" data-testid="case" data-message={row.messageId}>
          <div class={`mv-replayer-row${isSelected(row.key) ? " mv-replayer-selected" : ""}`}>
            <Checkbox
              testid="select"
              label={`Select ${row.messageId}`}
              checked={isOpen(row.status) && isSelected(row.key)}
              disabled={!isOpen(row.status)}
              onChange={() => onToggle(row.key)}
            />
            <button
              type="button"
              class="mv-replayer-line"
              data-line
              data-testid="open"
              aria-expanded={opened === row.key}
              title={row.error}
              onClick={() => onOpen(row.key)}
            >
              <StateBadge state={row.status} />
              <span class="mv-code mv-replayer-id" title={row.messageId}>
                {row.messageId}
              </span>
              <span class="mv-code mv-replayer-preview">{row.preview}</span>
              <span class="mv-dim mv-replayer-time">
                {row.replays ? `replayed ${row.replays}×  ` : ""}
                {formatTime(row.time)}
              </span>
            </button>
          </div>
          {opened === row.key ? <CaseView caseKey={row.key} version={group.version} place={placeOf(group)} /> : null}
        </div>
      ))}
      {page.more ? (
        <div class="mv-replayer-more">
          <Button kind="quiet" testid="more" onClick={() => setCount(count + 5 * PAGE)}>
            Show {Math.min(5 * PAGE, page.more)} more of {page.more.toLocaleString("en")}
          </Button>
        </div>
      ) : null}
    </div>
  );
}

interface CheckboxProps {
  checked: boolean;
  partly?: boolean;
  disabled?: boolean;
  onChange: () => void;
  label: string;
  testid: string;
}

export function Checkbox({ checked, partly = false, disabled = false, onChange, label, testid }: CheckboxProps) {
  return (
    <input
      type="checkbox"
      class="mv-replayer-check"
      checked={checked}
      ref={(box) => {
        if (box) box.indeterminate = partly;
      }}
      disabled={disabled}
      aria-label={label}
      title={label}
      data-testid={testid}
      onChange={onChange}
    />
  );
}
