import { useEffect, useRef, useState } from "preact/hooks";
import { Button, Field, useTrait } from "../lib";
import { shortName, type TableState } from "./rows";

const TYPING = 200; // milliseconds after the last key before the kernel is asked
const CHIPS = 6; // values of a facet shown before asking for more
const FACETS: [name: string, label: string][] = [
  ["operation", "Operation"],
  ["outcome", "Outcome"],
  ["topic", "Topic"],
  ["error_type", "Error"],
];

/** A text that is typed here and set in the kernel once the person pauses. */
function useTyped(trait: string): { text: string; type: (text: string) => void; submit: () => void } {
  const [value, setValue] = useTrait<string>(trait);
  const [draft, setDraft] = useState<string | null>(null);
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const submit = (text = draft): void => {
    clearTimeout(timer.current);
    if (text !== null && text !== value) setValue(text);
    setDraft(null);
  };
  const type = (text: string): void => {
    setDraft(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(submit, TYPING, text) as unknown as number;
  };
  return { text: draft ?? value, type, submit };
}

export function SearchField() {
  const search = useTyped("search");
  return (
    <Field
      label="Search"
      hideLabel
      type="search"
      placeholder="Search body, attributes, ids, errors"
      value={search.text}
      onInput={search.type}
      onSubmit={search.submit}
      testid="search"
    />
  );
}

export function QueryField() {
  const query = useTyped("query");
  const [problem] = useTrait<string>("_query_problem");
  return (
    <Field
      label="Query"
      hideLabel
      code
      placeholder="Query, such as attempt > 1 and size > 100"
      value={query.text}
      onInput={query.type}
      onSubmit={query.submit}
      error={problem}
      testid="query"
    />
  );
}

/** The chosen facets, and what changes them. */
export function useFacets(): [Record<string, string[]>, (facets: Record<string, string[]>) => void] {
  return useTrait<Record<string, string[]>>("facets");
}

/** The values of each facet with their counts, to choose among. */
export function Facets({ counts }: { counts: TableState["counts"] }) {
  const [chosen, setChosen] = useFacets();
  return (
    <>
      {FACETS.map(([name, label]) => (
        <Facet
          key={name}
          name={name}
          label={label}
          counts={counts[name] ?? []}
          chosen={chosen[name] ?? []}
          onChange={(values) => setChosen({ ...chosen, [name]: values })}
        />
      ))}
    </>
  );
}

interface FacetProps {
  name: string;
  label: string;
  counts: [string, number][];
  chosen: string[];
  onChange: (values: string[]) => void;
}

function Facet({ name, label, counts, chosen, onChange }: FacetProps) {
  const [open, setOpen] = useState(false);
  const known = new Map(counts);
  for (const value of chosen) if (!known.has(value)) known.set(value, 0);
  // One value of everything is no choice; one error among successes is.
  if (known.size < (name === "error_type" ? 1 : 2) && chosen.length === 0) return null;
  const values = [...known.keys()].sort();
  const shown = open ? values : values.filter((value, index) => index < CHIPS || chosen.includes(value));
  const toggle = (value: string): void =>
    onChange(chosen.includes(value) ? chosen.filter((other) => other !== value) : [...chosen, value]);
  return (
    <div class="mv-table-facet" role="group" aria-label={label} data-testid={`facet-${name}`}>
      <span class="mv-dim">{label}</span>
      {shown.map((value) => (
        <button
          key={value}
          type="button"
          class={`mv-table-chip${known.get(value) ? "" : " mv-table-chip-none"}`}
          aria-pressed={chosen.includes(value)}
          data-testid="chip"
          data-value={value}
          title={value}
          onClick={() => toggle(value)}
        >
          <span class="mv-table-chip-name">{name === "error_type" ? shortName(value) : value}</span>
          <span class="mv-count">{(known.get(value) ?? 0).toLocaleString("en")}</span>
        </button>
      ))}
      {values.length > CHIPS ? (
        <Button kind="quiet" testid="more" onClick={() => setOpen(!open)}>
          {open ? "fewer" : `${values.length - shown.length} more`}
        </Button>
      ) : null}
    </div>
  );
}
