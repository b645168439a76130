import { useEffect, useState } from "preact/hooks";
import { type Body, ErrorLine, formatDuration, formatSize, LongBody, StateBadge, useModel } from "../lib";
import type { AttributeChange, Step } from "./types";

type Side = "out" | "in";

interface CardProps {
  step: Step;
  side: Side;
  /** Which of several, where a layer handed the message on more than once. */
  pass: number | null;
  /** Bytes of the largest body shown, for the bars. */
  largest: number;
  open: boolean;
  onToggle: () => void;
}

/** A message in one layer: its size before and after, the time, what changed, what went wrong. */
export function StepCard({ step, side, pass, largest, open, onToggle }: CardProps) {
  return (
    <div
      class={`mv-chainview-step${step.problem === null ? "" : " mv-chainview-wrong"}`}
      data-testid="step"
      data-layer={step.layer}
      data-side={side}
      data-outcome={step.outcome}
    >
      <button
        type="button"
        class="mv-chainview-toggle"
        aria-expanded={open}
        data-testid="step-toggle"
        onClick={onToggle}
        title={open ? "Hide the bodies" : "Show the body before and after"}
      >
        <span class="mv-chainview-line">
          <bdi class="mv-chainview-layer">{step.layer}</bdi>
          {pass === null ? null : <span class="mv-dim">pass {pass}</span>}
          {step.outcome === "ok" || (step.outcome === "error" && step.problem === null) ? null : <StateBadge state={step.outcome} />}
          <span class="mv-chainview-seconds" title="Time in this layer alone">
            {step.seconds === null ? "" : formatDuration(step.seconds)}
          </span>
        </span>
        <Sizes step={step} largest={largest} />
      </button>
      {step.attributes.length === 0 ? null : (
        <ul class="mv-chainview-changes" data-testid="changes" aria-label="Attributes">
          {step.attributes.map((change) => (
            <Change key={change.key} change={change} />
          ))}
          {step.more > 0 ? <li class="mv-dim">and {step.more} more</li> : null}
        </ul>
      )}
      {step.problem === null ? null : (
        <div class="mv-chainview-problem" data-testid="step-problem">
          <b>✕ {step.layer}</b> {step.problem}
        </div>
      )}
      {step.notes.map((note) => (
        <div key={note} class="mv-chainview-note" data-testid="note">
          {note}
        </div>
      ))}
    </div>
  );
}

function Sizes({ step, largest }: { step: Step; largest: number }) {
  const { before, after, same } = step;
  const width = (size: number): string => `${Math.max(size > 0 ? 1 : 0, (100 * size) / largest)}%`;
  return (
    <span class="mv-chainview-sizes">
      <span class="mv-chainview-bar" aria-hidden="true">
        <i class="mv-chainview-before" style={{ width: width(before) }} />
        <i class="mv-chainview-after" style={{ width: width(after ?? before) }} />
      </span>
      <span data-testid="sizes">
        {formatSize(before)}
        {after === null ? "" : same ? <span class="mv-dim"> body not changed</span> : ` → ${formatSize(after)}`}
        {after === null || same || before === 0 ? null : (
          <span class="mv-dim">{after === before ? " other bytes" : ` ×${ratio(after / before)}`}</span>
        )}
      </span>
    </span>
  );
}

function ratio(value: number): string {
  return value >= 9.95 ? value.toFixed(0) : value.toPrecision(2);
}

const SIGNS = { added: "+", removed: "−", changed: "±" };

function Change({ change }: { change: AttributeChange }) {
  const { how, key, before, after } = change;
  return (
    <li data-how={how}>
      <span class={`mv-chainview-sign mv-chainview-${how}`}>
        {SIGNS[how]} {how}
      </span>{" "}
      <bdi class="mv-chainview-key">{key}</bdi>{" "}
      <span class="mv-chainview-values">
        {before === undefined ? null : <Values values={before} gone={how === "removed"} />}
        {before !== undefined && after !== undefined ? " → " : null}
        {after === undefined ? null : <Values values={after} gone={false} />}
      </span>
    </li>
  );
}

function Values({ values, gone }: { values: string[]; gone: boolean }) {
  const said = values.map((value, index) => (
    <span key={index}>
      {index > 0 ? ", " : ""}
      {value === "" ? <i class="mv-dim">empty</i> : <bdi>{value}</bdi>}
    </span>
  ));
  return gone ? <s>{said}</s> : <>{said}</>;
}

/** The body as it came to a layer beside the body as it went on. */
export function Panel({ step, side, number }: { step: Step; side: Side; number: number }) {
  const { layer, path, after, same, passes } = step;
  const one = after === null || same;
  return (
    <div class="mv-chainview-panel" data-testid="bodies" data-layer={layer} data-side={side}>
      <StepBody
        key={`${number} ${path} before`}
        title={one ? (after === null ? "as it came here" : "before and after: the same") : "before"}
        layer={layer}
        side={side}
        at={{ number, path, side: "before" }}
      />
      {one ? null : (
        <StepBody
          key={`${number} ${path} after ${passes} ${after}`}
          title="after"
          layer={layer}
          side={side}
          at={{ number, path, side: "after" }}
        />
      )}
    </div>
  );
}

interface StepBodyProps {
  title: string;
  layer: string;
  side: Side;
  at: { number: number; path: string; side: "before" | "after" };
}

function StepBody({ title, layer, side, at }: StepBodyProps) {
  const model = useModel();
  const [first, setFirst] = useState<Body | null | undefined>(undefined);
  const [error, setError] = useState<string | null>(null);
  const ask = (from: number): Promise<Body> => model.request<Body>("body", { ...at, at: from });
  useEffect(() => {
    ask(0)
      .then(setFirst)
      .catch((problem: Error) => setError(problem.message));
  }, []);
  return (
    <section data-testid={`body-${at.side}`} aria-label={`${layer}, ${side}: body ${title}`}>
      <h4>
        <bdi>{layer}</bdi> <span class="mv-dim">{side}</span> {title}
      </h4>
      {error === null ? null : <ErrorLine>{error}</ErrorLine>}
      {first === undefined ? <div class="mv-chainview-reading mv-dim">{error === null ? "Reading…" : ""}</div> : <LongBody body={first} ask={ask} />}
    </section>
  );
}
