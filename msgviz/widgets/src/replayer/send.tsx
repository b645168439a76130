import { useEffect, useState } from "preact/hooks";
import { Button, ErrorLine, Field, formatCount, Select, useModel } from "../lib";
import { isEmpty, type Selection, toContent } from "./selection";
import type { Check, Edit } from "./types";

interface Props {
  selection: Selection;
  /** How many cases are open: when that changes, the selection is looked at again. */
  open: number;
  running: boolean;
  onClear: () => void;
}

interface Wish {
  kind: "set" | "remove";
  key: string;
  value: string;
}

const KINDS: [kind: Wish["kind"], name: string][] = [
  ["set", "Set"],
  ["remove", "Remove"],
];

/** What is about to be sent and where to, and the button that sends it. */
export function SendBar({ selection, open, running, onClear }: Props) {
  const model = useModel();
  const [check, setCheck] = useState<Check | null>(null);
  const [rate, setRate] = useState("");
  const [wishes, setWishes] = useState<Wish[]>([]);
  const [problem, setProblem] = useState<string | null>(null);
  const content = toContent(selection);
  const shape = JSON.stringify(content);

  useEffect(() => {
    setCheck(null);
    if (isEmpty(selection)) return;
    let stale = false;
    const timer = setTimeout(() => {
      void model.request<Check>("check", content).then((answer) => {
        if (stale) return;
        if (answer.total === 0) onClear();
        else setCheck(answer);
      });
    }, 100);
    return () => {
      stale = true;
      clearTimeout(timer);
    };
  }, [model, shape, open, running]);

  if (isEmpty(selection) && !problem) {
    return (
      <div class="mv-bar mv-replayer-send mv-dim" data-testid="hint">
        Select messages or a whole group to replay them. Each goes only to the subscription where it failed.
      </div>
    );
  }
  const perSecond = rate.trim() === "" ? null : Number(rate);
  const badRate = perSecond !== null && !(perSecond > 0 && Number.isFinite(perSecond));
  const ready = check ? check.ready + check.unchecked : 0;
  const named = wishes.every((wish) => wish.key.trim() !== "");
  const send = (): void => {
    setProblem(null);
    const edit: Edit = {
      set: wishes.filter((wish) => wish.kind === "set").map((wish) => [wish.key.trim(), wish.value]),
      remove: wishes.filter((wish) => wish.kind === "remove").map((wish) => wish.key.trim()),
    };
    model
      .request("replay", { ...content, edit, rate: perSecond })
      .then(() => {
        setWishes([]);
        onClear();
      })
      .catch((error: Error) => setProblem(error.message));
  };
  const change = (index: number, part: Partial<Wish>): void =>
    setWishes(wishes.map((wish, at) => (at === index ? { ...wish, ...part } : wish)));

  return (
    <div class="mv-replayer-send" data-testid="send">
      {wishes.map((wish, index) => (
        <div key={index} class="mv-bar mv-replayer-wish" data-testid="wish">
          <Select
            label="What to do with the attribute"
            testid="wish-kind"
            value={wish.kind}
            onChange={(kind) => change(index, { kind: kind as Wish["kind"] })}
            options={KINDS}
          />
          <div class="mv-fill">
            <Field label="Attribute" hideLabel placeholder="Attribute" value={wish.key} code testid="wish-key" onInput={(key) => change(index, { key })} />
          </div>
          {wish.kind === "set" ? (
            <div class="mv-fill">
              <Field label="Value" hideLabel placeholder="Value" value={wish.value} code testid="wish-value" onInput={(value) => change(index, { value })} />
            </div>
          ) : null}
          <Button kind="quiet" label="Leave this attribute alone" testid="wish-drop" onClick={() => setWishes(wishes.filter((_, at) => at !== index))}>
            ×
          </Button>
        </div>
      ))}
      {check?.skipped ? (
        <div class="mv-replayer-note" data-testid="cannot">
          {check.skipped.toLocaleString("en")} of {check.total.toLocaleString("en")} cannot be replayed:
          <ul>
            {check.reasons.map(({ reason, count }) => (
              <li key={reason}>
                {count > 1 ? `${count.toLocaleString("en")}× ` : ""}
                {reason}
              </li>
            ))}
          </ul>
        </div>
      ) : null}
      {problem ? (
        <ErrorLine testid="send-error" onDismiss={() => setProblem(null)}>
          {problem}
        </ErrorLine>
      ) : null}
      <div class="mv-bar">
        <Button kind="primary" testid="replay" disabled={running || ready === 0 || badRate || !named} onClick={send}>
          {check ? `Replay ${formatCount(ready, "message")}` : "Replay …"}
        </Button>
        <Button testid="wish-add" onClick={() => setWishes([...wishes, { kind: "set", key: "", value: "" }])}>
          Change an attribute…
        </Button>
        <div class="mv-replayer-rate">
          <Field
            label="At most"
            value={rate}
            onInput={setRate}
            placeholder="no limit"
            testid="rate"
            error={badRate ? "A number above 0." : null}
          />
          <span class="mv-dim">a second</span>
        </div>
        <span class="mv-dim mv-fill mv-replayer-to" data-testid="places">
          {running ? "Another replay is running." : check?.places.length ? `Only to ${listed(check.places)}, where they failed.` : ""}
          {check?.unchecked ? ` The last ${formatCount(check.unchecked, "message")} will be checked when sent.` : ""}
        </span>
      </div>
    </div>
  );
}

function listed(places: string[]): string {
  return places.length < 2 ? places.join("") : `${places.slice(0, -1).join(", ")} and ${places.at(-1)}`;
}
