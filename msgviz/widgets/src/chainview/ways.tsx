import { type ComponentChildren, Fragment } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ErrorLine, formatSize, formatTime, Select, StateBadge, Tabs, useModel } from "../lib";
import { Panel, StepCard } from "./step";
import type { Step, Walk, Way } from "./types";

const TABS = 6; // ways shown as tabs; more of them become a list to choose from

/** The message on its way out beside one of its ways in, a row for each depth of the chain. */
export function Ways({ walk }: { walk: Walk }) {
  const outs = walk.ways.filter(({ direction }) => direction === "out");
  const ins = walk.ways.filter(({ direction }) => direction === "in");
  const out = useChosen(outs, walk);
  const back = useChosen(ins, walk);
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const toggle = (key: string): void => {
    const next = new Set(open);
    if (!next.delete(key)) next.add(key);
    setOpen(next);
  };

  const steps = [...out.steps, ...back.steps];
  const places = [...steps, ...(out.way?.unreached ?? []), ...(back.way?.unreached ?? [])];
  const depths = [...new Set([0, ...places.map(({ depth }) => depth)])].sort((a, b) => a - b);
  const largest = Math.max(1, ...steps.flatMap(({ before, after }) => [before, after ?? 0]));
  const several = new Set(ins.map(({ subscription, topic }) => `${topic}/${subscription}`)).size > 1;
  // The system is one row below all others: there the way in begins.
  const system = Math.max(-1, ...[...out.steps, ...(out.way?.unreached ?? [])].map(({ depth }) => depth));
  const bottom = back.steps.every(({ depth }) => depth < system) ? depths.indexOf(system) : depths.length;
  const ghosts = (side: "out" | "in", way: Way | null) =>
    way?.unreached.map(({ depth, layer }) => (
      <div
        key={`${side}${depth}`}
        class={`mv-chainview-cell mv-chainview-${side} mv-chainview-ghost`}
        style={`--mv-row: ${3 * depths.indexOf(depth) + 2}`}
      >
        <Terminal testid="unreached">
          <bdi>{layer}</bdi> {UNREACHED[way.outcome] ?? "was not reached"}
        </Terminal>
      </div>
    ));
  const cells = (side: "out" | "in", all: Step[], way: Way | null) =>
    [...new Set(all.map(({ depth }) => depth))].map((depth, index, { length }) => {
      const row = depths.indexOf(depth);
      const here = all.filter((step) => step.depth === depth);
      const opened = here.filter(({ path }) => open.has(`${side}:${path}`));
      return (
        <Fragment key={`${side}${depth}`}>
          <div
            class={`mv-chainview-cell mv-chainview-${side}${index === length - 1 ? " mv-chainview-last" : ""}`}
            style={`--mv-row: ${3 * row + 2}`}
          >
            {here.map((step, pass) => (
              <StepCard
                key={step.path}
                step={step}
                side={side}
                pass={here.length > 1 ? pass + 1 : null}
                largest={largest}
                open={open.has(`${side}:${step.path}`)}
                onToggle={() => toggle(`${side}:${step.path}`)}
              />
            ))}
          </div>
          {opened.length > 0 && way !== null ? (
            <div class="mv-chainview-panels" style={`--mv-row: ${3 * row + (side === "out" ? 3 : 4)}`}>
              {opened.map((step) => (
                <Panel key={step.path} step={step} side={side} number={way.number} />
              ))}
            </div>
          ) : null}
        </Fragment>
      );
    });
  return (
    <div class="mv-chainview-ways">
      {walk.held === null ? null : (
        <div class="mv-chainview-held" role="status" data-testid="held">
          {walk.held}
        </div>
      )}
      {out.error ?? back.error ? <ErrorLine>{out.error ?? back.error}</ErrorLine> : null}
      <div class="mv-chainview-grid">
        <section class="mv-chainview-side" aria-label="Out">
          <header class="mv-chainview-heading mv-chainview-out" style="--mv-row: 1">
            <h4>
              Out <span class="mv-dim">down to the system</span>
            </h4>
            <Choice side="out" ways={outs} chosen={out.way} onChoose={out.choose} several={false} older={0} />
          </header>
          <div class="mv-chainview-cell mv-chainview-out mv-chainview-first" style="--mv-row: 2">
            {out.way === null ? (
              <Terminal testid="no-out">
                How it went out was not observed here{walk.dropped ? ", or was dropped since" : ""}.
              </Terminal>
            ) : out.steps[0]?.depth === 0 ? null : (
              <Terminal testid="application">
                <b>application</b> published {formatSize(out.way.size ?? 0)}
                {out.way.time === null ? null : <span class="mv-dim"> {formatTime(out.way.time)}</span>}
              </Terminal>
            )}
          </div>
          {cells("out", out.steps, out.way)}
          {ghosts("out", out.way)}
        </section>
        <section class="mv-chainview-side" aria-label="In">
          <header class="mv-chainview-heading mv-chainview-in" style="--mv-row: 1">
            <h4>
              In <span class="mv-dim">up to the receiver</span>
            </h4>
            <Choice
              side="in"
              ways={ins}
              chosen={back.way}
              onChoose={back.choose}
              several={several}
              older={walk.older}
            />
          </header>
          <div
            class={`mv-chainview-cell mv-chainview-in mv-chainview-first${back.way === null ? " mv-chainview-last" : ""}`}
            style={`--mv-row: ${3 * bottom + 2}`}
          >
            {back.way === null ? (
              <Terminal testid="no-in">{WAITING[walk.state ?? ""] ?? "No receive of it was observed."}</Terminal>
            ) : (
              <Delivered way={back.way} out={out.way} />
            )}
          </div>
          {cells("in", back.steps, back.way)}
          {ghosts("in", back.way)}
        </section>
      </div>
    </div>
  );
}

/** A layer may also have sent it from a task of its own. */
const UNREACHED: Record<string, string> = { ok: "did not see it", running: "is not reached yet" };

const WAITING: Record<string, string> = {
  pending: "Not received yet.",
  in_flight: "Being received, by a server whose layers are not observed.",
};

function Terminal({ children, testid }: { children: ComponentChildren; testid: string }) {
  return (
    <div class="mv-chainview-terminal" data-testid={testid}>
      {children}
    </div>
  );
}

function Delivered({ way, out }: { way: Way; out: Way | null }) {
  const late = out?.time == null || way.time === null ? null : way.time - out.time;
  return (
    <Terminal testid="delivered">
      <b>delivered</b> {formatSize(way.size ?? 0)}
      {way.arrived === null ? null : way.arrived ? (
        <span class="mv-dim">, the same bytes as went out</span>
      ) : (
        <span class="mv-chainview-other">, other bytes than went out</span>
      )}
      {late === null || late < 0 ? null : <span class="mv-dim"> {formatTime(way.time ?? 0)}</span>}
    </Terminal>
  );
}

interface ChoiceProps {
  side: "out" | "in";
  ways: Way[];
  chosen: Way | null;
  onChoose: (number: number) => void;
  /** Whether they are of several subscriptions. */
  several: boolean;
  older: number;
}

function Choice({ side, ways, chosen, onChoose, several, older }: ChoiceProps) {
  if (ways.length === 0 || (side === "out" && ways.length === 1)) return null;
  const where = (way: Way): string => (several ? (way.subscription ?? "received") : "");
  const name = (way: Way): string =>
    side === "out" ? `publish ${ways.indexOf(way) + 1}` : `attempt ${way.attempt}`;
  const label = side === "out" ? "Way out" : "Attempt";
  return (
    <div class="mv-chainview-choice">
      {several || side === "out" ? null : <bdi class="mv-dim mv-chainview-name">{chosen?.subscription}</bdi>}
      {ways.length > TABS ? (
        <>
          <Select
            label={label}
            testid={`${side}-select`}
            value={String(chosen?.number)}
            onChange={(number) => onChoose(Number(number))}
            options={ways.map((way) => [String(way.number), `${where(way)} ${name(way)}: ${way.outcome}`.trim()])}
          />
          <span class="mv-dim">
            of {ways.length}
            {older > 0 ? `, ${older} earlier ones are not shown` : ""}
          </span>
        </>
      ) : (
        <Tabs
          label={label}
          tabs={ways.map((way) => ({
            value: way.number,
            name: (
              <>
                {where(way) === "" ? null : <bdi class="mv-chainview-name">{where(way)}</bdi>}
                <span class="mv-chainview-attempt">
                  {name(way)} <StateBadge state={way.outcome} />
                </span>
              </>
            ),
            testid: `${side}-tab`,
            title: `${where(way)} ${way.time === null ? "" : formatTime(way.time, true)}`.trim(),
          }))}
          chosen={chosen?.number ?? null}
          onChoose={onChoose}
        />
      )}
    </div>
  );
}

/** The way that is shown: the newest, until a person chooses another. */
function useChosen(ways: Way[], walk: Walk) {
  const model = useModel();
  const [number, choose] = useState<number | null>(null);
  const [asked, setAsked] = useState<{ number: number; steps: Step[] } | null>(null);
  const [error, setError] = useState<string | null>(null);
  const way = ways.find((one) => one.number === number) ?? ways.at(-1) ?? null;
  const sent = way === null ? [] : walk.steps[String(way.number)];
  useEffect(() => {
    if (way === null || sent !== undefined) return;
    let current = true;
    model
      .request<Step[]>("way", { number: way.number })
      .then((steps) => {
        if (!current) return;
        setError(null);
        setAsked({ number: way.number, steps });
      })
      .catch((problem: Error) => current && setError(problem.message));
    return () => {
      current = false;
    };
  }, [way?.number, way?.version, sent === undefined]);
  // Until the steps of another way have come, those before them stay where they are.
  const [last, setLast] = useState<Step[]>([]);
  const found = sent ?? (asked?.number === way?.number ? asked?.steps : undefined);
  useEffect(() => {
    if (found !== undefined) setLast(found);
  }, [found]);
  const steps = useMemo(() => found ?? last, [found, last]);
  return { way, steps, choose, error };
}
