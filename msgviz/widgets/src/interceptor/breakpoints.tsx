import type { ComponentProps } from "preact";
import { useState } from "preact/hooks";
import { Button, ErrorLine, Field, formatCount, Select, useModel } from "../lib";
import type { Breakpoint, Side, State } from "./types";

const SIDES: [value: Side | "", label: string][] = [
  ["", "publish and receive"],
  ["publish", "publish"],
  ["receive", "receive"],
];

type Problem = { field: "condition" | "layer" | "timeout"; problem: string };

/** Sets a breakpoint. */
export function BreakpointForm({ layers }: { layers: State["layers"] }) {
  const model = useModel();
  const [condition, setCondition] = useState("");
  const [side, setSide] = useState<Side | "">("");
  const [layer, setLayer] = useState("");
  const [timeout, setTimeout] = useState("60");
  const [problem, setProblem] = useState<Problem | null>(null);
  const offered = layers.filter((known) => side === "" || known.sides.includes(side));
  const seconds = Number(timeout);
  const badTime = timeout.trim() === "" || !(seconds > 0 && seconds < 1e9);
  const at = offered.some(({ name }) => name === layer) ? layer : "";

  const set = (): void => {
    if (badTime) return;
    setProblem(null);
    model
      .request<Problem | { number: number }>("set", {
        condition,
        side: side || null,
        layer: at || null,
        timeout: seconds,
      })
      .then((answer) => ("problem" in answer ? setProblem(answer) : setCondition("")))
      .catch((error: Error) => setProblem({ field: "layer", problem: error.message }));
  };
  const said = (field: Problem["field"]): string | null => (problem?.field === field ? problem.problem : null);

  return (
    <form
      class="mv-interceptor-form"
      data-testid="form"
      onSubmit={(event) => {
        event.preventDefault();
        set();
      }}
    >
      <div class="mv-interceptor-condition">
        <Field
          label="Hold messages where"
          value={condition}
          onInput={(text) => {
            setCondition(text);
            if (problem?.field === "condition") setProblem(null);
          }}
          onSubmit={set}
          placeholder="every message, or topic == 'orders' and attributes.str['Source'] == 'web'"
          testid="condition"
          code
          error={said("condition")}
        />
      </div>
      <Choice label="On" testid="side" value={side} onChange={(value) => setSide(value as Side | "")} options={SIDES} />
      {layers.length ? (
        <Choice
          label="Where"
          testid="layer"
          value={at}
          onChange={setLayer}
          options={[["", "as the application sees it"], ...offered.map(({ name }): [string, string] => [name, `in front of ${name}`])]}
        />
      ) : null}
      <div class="mv-interceptor-timeout">
        <Field
          label="Goes on after (s)"
          value={timeout}
          onInput={setTimeout}
          onSubmit={set}
          testid="timeout"
          error={badTime ? "A number above 0." : said("timeout")}
        />
      </div>
      <Button kind="primary" testid="set" disabled={badTime} onClick={set}>
        Set a breakpoint
      </Button>
      {said("layer") === null ? null : (
        <div class="mv-interceptor-wide">
          <ErrorLine testid="set-error" onDismiss={() => setProblem(null)}>
            {said("layer")}
          </ErrorLine>
        </div>
      )}
    </form>
  );
}

type ChoiceProps = ComponentProps<typeof Select> & { label: string };

function Choice({ label, ...select }: ChoiceProps) {
  return (
    <label class="mv-field mv-interceptor-select">
      <span class="mv-label">{label}</span>
      <Select {...select} />
    </label>
  );
}

/** The breakpoints there are, wherever they were set. */
export function BreakpointList({ breakpoints }: { breakpoints: Breakpoint[] }) {
  const model = useModel();
  return (
    <ul class="mv-interceptor-points" data-testid="breakpoints" aria-label="Breakpoints">
      {breakpoints.map((point) => (
        <li key={point.number} data-testid="breakpoint" data-number={point.number}>
          <span class="mv-interceptor-what">
            {point.condition ? <code class="mv-code">{point.condition}</code> : <span>every message</span>}
            <span class="mv-dim">
              {` on ${point.side ?? "publish and receive"}`}
              {point.layer === null ? "" : `, in front of ${layerName(point.layer)}`}
              {`, for ${point.timeout.toLocaleString("en")} s`}
              {point.own ? "" : ", set elsewhere"}
            </span>
          </span>
          <span class="mv-interceptor-number" data-testid="hits">
            {formatCount(point.hits, "hit")}
          </span>
          <span class={`mv-interceptor-number mv-state mv-tone-${point.held ? "warn" : "idle"}`} data-testid="point-held">
            {point.held.toLocaleString("en")} held
          </span>
          <Button
            kind="quiet"
            testid="remove"
            label={point.held ? "Remove this breakpoint; what it holds goes on" : "Remove this breakpoint"}
            onClick={() => model.send("remove", { number: point.number })}
          >
            ×
          </Button>
          {point.error ? (
            <div class="mv-interceptor-wide">
              <ErrorLine testid="point-error">For some message this could not be judged, so it passed: {point.error}</ErrorLine>
            </div>
          ) : null}
        </li>
      ))}
    </ul>
  );
}

const layerName = (layer: string | number): string => (typeof layer === "number" ? `layer ${layer}` : layer);
