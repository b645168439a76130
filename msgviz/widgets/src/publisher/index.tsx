import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Button, defineWidget, EmptyState, ErrorLine, Field, Select, useModel, useTrait } from "../lib";
import { AttributeEditor } from "./attributes";
import { BodyEditor } from "./body";
import { findMistakes, type Result, useForm } from "./form";
import "./publisher.css";
import { Progress, ResultLine } from "./result";

const COMMAND = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘ Enter" : "Ctrl Enter";
// The first of these is what must be mended, where anything must.
const WRONG = "[data-mv-mistake], [aria-invalid='true'], [data-testid='choose-file']";

function Publisher() {
  const model = useModel();
  const [topics] = useTrait<string[]>("topics");
  const [topic, setTopic] = useTrait<string>("topic");
  const [result] = useTrait<Result | null>("_result");
  const { form, change, previous, undo, send } = useForm();
  const mistakes = useMemo(() => findMistakes(form), [form]);
  const [tried, setTried] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const root = useRef<HTMLFormElement>(null);
  const waiting = useRef(false);

  useEffect(() => setTried(false), [form.kind, form.source]);

  const publish = (): void => {
    const { rows, ...others } = mistakes;
    if ([...rows, ...Object.values(others)].some((mistake) => mistake !== null)) {
      setTried(true);
      root.current?.querySelector<HTMLElement>(WRONG)?.focus();
      return;
    }
    if (waiting.current || topic === "") return;
    waiting.current = true;
    setTried(false);
    setError(null);
    send();
    model
      .request("publish", { form })
      .catch((problem: Error) => setError(problem.message))
      .finally(() => (waiting.current = false));
  };

  if (topics.length === 0) {
    return (
      <EmptyState>
        There is no topic to publish to yet. Make one: <code>backend.topic("orders")</code>
      </EmptyState>
    );
  }
  const publishing = result?.status === "publishing";
  return (
    <form
      class="mv-publisher-form"
      ref={root}
      onSubmit={(event) => event.preventDefault()}
      onKeyDown={(event) => {
        if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        publish();
      }}
    >
      <div class="mv-publisher-topic">
        <span class="mv-label">Publish to</span>
        {topics.length === 1 ? (
          <bdi class="mv-publisher-name" data-testid="topic">
            {topic}
          </bdi>
        ) : (
          <Select
            label="Publish to"
            testid="topic"
            value={topic}
            onChange={setTopic}
            options={topics.map((name) => [name, name])}
          />
        )}
      </div>
      {form.source === null ? null : (
        <div class="mv-publisher-note" role="status" data-testid="filled">
          <span>
            Copied from <span class="mv-code">{form.source}</span>
          </span>
          {previous === null ? null : (
            <Button kind="quiet" testid="undo" onClick={undo}>
              Undo
            </Button>
          )}
        </div>
      )}
      <BodyEditor form={form} change={change} mistake={mistakes.json} fileMistake={mistakes.file} tried={tried} />
      <AttributeEditor
        rows={form.attributes}
        mistakes={mistakes.rows}
        onChange={(attributes) => change({ attributes })}
      />
      <div class="mv-publisher-foot">
        <Field
          label="Delay, seconds"
          testid="delay"
          value={form.delay}
          error={mistakes.delay}
          onInput={(delay) => change({ delay })}
        />
        <Field
          label="How many"
          testid="count"
          value={form.count}
          error={mistakes.count}
          onInput={(count) => change({ count })}
        />
        <span class="mv-fill" />
        <span class="mv-dim mv-publisher-keys">{COMMAND}</span>
        {publishing ? (
          <Button testid="stop" onClick={() => model.send("stop")}>
            Stop
          </Button>
        ) : (
          <Button kind="primary" testid="publish" onClick={publish}>
            Publish
          </Button>
        )}
      </div>
      {error === null ? null : (
        <ErrorLine testid="publish-error" onDismiss={() => setError(null)}>
          Not published. {error}
        </ErrorLine>
      )}
      {publishing ? (
        <Progress result={result} />
      ) : result !== null && error === null ? (
        <ResultLine result={result} />
      ) : null}
    </form>
  );
}

export default defineWidget("publisher", Publisher);
