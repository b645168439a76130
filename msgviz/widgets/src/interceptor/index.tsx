import { useEffect, useRef, useState } from "preact/hooks";
import { defineWidget, EmptyState, useMessages, useModel, useTrait } from "../lib";
import { type Draft, type Edit, editOf } from "../lib/draft";
import { BreakpointForm, BreakpointList } from "./breakpoints";
import { arrived } from "./clock";
import { DetailView } from "./detail";
import { HeldHead, HeldList } from "./held";
import "./interceptor.css";
import { Lately } from "./lately";
import type { Action, Detail, State } from "./types";

type Drafts = Record<number, { detail: Detail; draft: Draft }>;

function Interceptor() {
  const model = useModel();
  const [newestFirst, setNewestFirst] = useTrait<boolean>("newest_first");
  const [state, setState] = useState<State | null>(null);
  const [selected, setSelected] = useState<number | null>(null);
  const [detail, setDetail] = useState<Detail | null>(null);
  const [drafts, setDrafts] = useState<Drafts>({});
  const [problem, setProblem] = useState<string | null>(null);
  const [endings, setEndings] = useState<Record<number, string>>({});
  const handled = useRef(new Set<number>()); // by a click on this page
  const root = useRef<HTMLDivElement>(null);
  const refocus = useRef(false);

  const take = (next: State): void => {
    arrived(next.held);
    setState(next);
    const news = next.lately.filter(({ number }) => number === selected || number in drafts);
    if (news.length) setEndings((known) => ({ ...known, ...Object.fromEntries(news.map((past) => [past.number, past.ended])) }));
  };
  useMessages<{ value: State }>("state", (message) => take(message.value));
  useEffect(() => void model.request<State>("state").then(take), [model]);

  // What is selected stays selected when it goes on by itself: the next click must not hit another message.
  useEffect(() => {
    if (selected !== null || state === null) return;
    const first = state.held.find((one) => !handled.current.has(one.number));
    if (first) setSelected(first.number);
  }, [selected, state]);

  useEffect(() => {
    setProblem(null);
    if (selected === null) {
      setDetail(null);
      return;
    }
    const kept = drafts[selected];
    if (kept) {
      setDetail(kept.detail);
      return;
    }
    let stale = false;
    void model.request<Detail | null>("detail", { number: selected }).then((found) => {
      if (stale) return;
      if (found) {
        arrived([found]);
        setDetail(found);
      } else setSelected(null); // it went on before anything of it was to be seen
    });
    return () => {
      stale = true;
    };
  }, [model, selected]);

  // The button that was pressed may be no more to be pressed for the next message: the focus stays near it.
  useEffect(() => {
    const active = document.activeElement;
    if (!refocus.current || (root.current?.contains(active) && active?.matches(":enabled"))) return;
    refocus.current = false;
    (root.current?.querySelector<HTMLElement>("[data-testid=detail]") ?? root.current)?.focus();
  }, [detail?.number]);

  if (state === null) return null;
  const numbers = new Set(state.numbers);
  const changed = Object.values(drafts).filter((kept) => editOf(kept.detail, kept.draft) !== null);
  const gone = changed
    .filter((kept) => !numbers.has(kept.detail.number) && !handled.current.has(kept.detail.number))
    .map((kept) => kept.detail);

  const forget = (number: number): void => {
    setDrafts(({ [number]: _, ...others }) => others);
  };
  const firstBeside = (numbers: Set<number>): number | null =>
    state.held.find((one) => !numbers.has(one.number))?.number ?? null;
  const act = (number: number, action: Action, edit: Edit | null, error?: string): void => {
    if (handled.current.has(number)) return;
    handled.current.add(number);
    setProblem(null);
    model
      .request<{ gone?: string | null; next?: number | null }>("act", { number, action, edit, error: error ?? "" })
      .then((answer) => {
        if ("gone" in answer) {
          handled.current.delete(number);
          if (answer.gone) setEndings((known) => ({ ...known, [number]: answer.gone as string }));
          setState((now) => now && { ...now, numbers: now.numbers.filter((other) => other !== number) });
          return;
        }
        forget(number);
        refocus.current = root.current?.contains(document.activeElement) ?? false;
        setSelected((now) => (now === number ? (answer.next ?? firstBeside(handled.current)) : now));
      })
      .catch((failure: Error) => {
        handled.current.delete(number);
        setProblem(failure.message);
      });
  };
  const actOnAll = (): void => {
    const edited = new Set(changed.map((kept) => kept.detail.number));
    for (const number of numbers) if (!edited.has(number)) handled.current.add(number);
    setSelected((now) => (now !== null && handled.current.has(now) ? null : now));
    model.send("continue_all");
  };
  const shown = detail; // the one before stays in sight while the next one is fetched
  const row = state.held.find((one) => one.number === shown?.number) ?? shown;
  const isHeld = shown !== null && (numbers.has(shown.number) || handled.current.has(shown.number));
  const idle = state.breakpoints.length === 0 && state.numbers.length === 0 && gone.length === 0;

  return (
    <div ref={root} tabIndex={-1} class="mv-interceptor-root">
      <BreakpointForm layers={state.layers} />
      {state.breakpoints.length ? <BreakpointList breakpoints={state.breakpoints} /> : null}
      {idle && shown === null ? (
        <EmptyState>
          Set a breakpoint to hold live messages: each one that matches waits here until you let it go on, edited or not.
          It goes on by itself in time, so nothing hangs.
        </EmptyState>
      ) : (
        <div class="mv-interceptor-held">
          <div class="mv-interceptor-left-side">
            <HeldHead
              count={state.numbers.length}
              newestFirst={newestFirst}
              onOrder={setNewestFirst}
              onAll={actOnAll}
            />
            <HeldList
              held={state.held}
              more={state.numbers.length - state.held.length}
              selected={selected}
              onSelect={setSelected}
              edited={new Set(changed.map((kept) => kept.detail.number))}
              gone={gone}
            />
          </div>
          {shown ? (
            <DetailView
              detail={shown}
              row={isHeld ? row : null}
              draft={drafts[shown.number]?.draft ?? null}
              onDraft={(draft) => setDrafts((known) => ({ ...known, [shown.number]: { detail: shown, draft } }))}
              ended={endings[shown.number] ?? null}
              problem={problem}
              onAct={(action, edit, error) => act(shown.number, action, edit, error)}
              onClose={() => {
                forget(shown.number);
                setSelected(null);
              }}
            />
          ) : (
            <div class="mv-interceptor-detail mv-dim" />
          )}
        </div>
      )}
      <Lately lately={state.lately} />
    </div>
  );
}

export default defineWidget("interceptor", Interceptor);
