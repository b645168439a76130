import { ID_ATTRIBUTE } from "./attributes";
import { Button, Field } from "./controls";

export type Pair = [key: string, value: string];

/** What is wrong about them, for a person; null for nothing. */
export function pairsProblem(pairs: Pair[]): string | null {
  if (pairs.some(([key]) => key.trim() === "")) return "Every attribute needs a name.";
  const reserved = pairs.some(([key]) => key.trim().toLowerCase() === ID_ATTRIBUTE.toLowerCase());
  return reserved ? `${ID_ATTRIBUTE} is msgviz's own.` : null;
}

/** Attributes to be changed: a name and a value a line. */
export function PairsField({ pairs, onPairs }: { pairs: Pair[]; onPairs: (pairs: Pair[]) => void }) {
  const set = (index: number, pair: Pair): void => onPairs(pairs.map((old, at) => (at === index ? pair : old)));
  const problem = pairsProblem(pairs);
  return (
    <div>
      <div class="mv-label">Attributes</div>
      <div class="mv-pairs">
        {pairs.map(([key, value], index) => (
          <div key={index} class="mv-pair" data-testid="attribute">
            <Field
              label="Name"
              hideLabel
              placeholder="Name"
              value={key}
              onInput={(next) => set(index, [next, value])}
              testid="attribute-key"
              code
            />
            <Field
              label={`Value of ${key}`}
              hideLabel
              placeholder="Value"
              value={value}
              onInput={(next) => set(index, [key, next])}
              testid="attribute-value"
              code
            />
            <Button
              kind="quiet"
              testid="attribute-remove"
              label={`Remove ${key || "this attribute"}`}
              onClick={() => onPairs(pairs.filter((_, at) => at !== index))}
            >
              ×
            </Button>
          </div>
        ))}
        <Button kind="quiet" testid="attribute-add" onClick={() => onPairs([...pairs, ["", ""]])}>
          + Add an attribute
        </Button>
      </div>
      {problem ? <div class="mv-pairs-problem">{problem}</div> : null}
    </div>
  );
}
