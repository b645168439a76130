import { useEffect, useRef } from "preact/hooks";
import { Button, ErrorLine } from "../lib";
import { canonicalKey, type Row } from "./form";

interface Props {
  rows: Row[];
  mistakes: (string | null)[];
  onChange: (rows: Row[]) => void;
}

/** Attributes as lines of a key and a value; a key that comes twice has two values. */
export function AttributeEditor({ rows, mistakes, onChange }: Props) {
  const root = useRef<HTMLElement>(null);
  const focusRow = useRef<number | null>(null);
  useEffect(() => {
    if (focusRow.current === null) return;
    const keys = root.current?.querySelectorAll<HTMLInputElement>('[data-testid="attribute-key"]');
    keys?.[focusRow.current]?.focus();
    focusRow.current = null;
  }, [rows.length]);

  const set = (index: number, row: Row): void => onChange(rows.map((old, at) => (at === index ? row : old)));
  const add = (key = ""): void => {
    focusRow.current = rows.length;
    onChange([...rows, [key, ""]]);
  };
  return (
    <section class="mv-publisher-attributes" aria-label="Attributes" ref={root}>
      {rows.map(([key, value], index) => (
        <div key={index} class="mv-publisher-row" data-testid="attribute-row">
          <input
            class="mv-input mv-code"
            aria-label={`Key of attribute ${index + 1}`}
            aria-invalid={mistakes[index] !== null}
            data-mv-mistake={mistakes[index] !== null || undefined}
            placeholder="Key"
            data-testid="attribute-key"
            spellcheck={false}
            autocomplete="off"
            value={key}
            onInput={(event) => set(index, [event.currentTarget.value, value])}
            onBlur={() => {
              const canonical = canonicalKey(key);
              if (canonical !== key) set(index, [canonical, value]);
            }}
          />
          <Value
            index={index}
            value={value}
            onInput={(next) => set(index, [key, next])}
            onEnter={() => add()}
          />
          <Button
            kind="quiet"
            testid="attribute-remove"
            label={`Remove attribute ${key || index + 1}`}
            onClick={() => onChange(rows.filter((_, at) => at !== index))}
          >
            ×
          </Button>
          {mistakes[index] ? <ErrorLine testid="attribute-error">{mistakes[index]}</ErrorLine> : null}
        </div>
      ))}
      <div>
        <Button kind="quiet" testid="attribute-add" onClick={() => add()}>
          + Attribute
        </Button>
      </div>
    </section>
  );
}

interface ValueProps {
  index: number;
  value: string;
  onInput: (value: string) => void;
  onEnter: () => void;
}

function Value({ index, value, onInput, onEnter }: ValueProps) {
  const shared = {
    class: "mv-input mv-code",
    "aria-label": `Value of attribute ${index + 1}`,
    placeholder: "Value",
    "data-testid": "attribute-value",
    spellcheck: false,
    value,
  };
  // A line of text would lose the line breaks of a value that has some.
  if (/[\r\n]/.test(value)) {
    return <textarea {...shared} rows={3} onInput={(event) => onInput(event.currentTarget.value)} />;
  }
  return (
    <input
      {...shared}
      autocomplete="off"
      onInput={(event) => onInput(event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && !event.isComposing) onEnter();
      }}
    />
  );
}
