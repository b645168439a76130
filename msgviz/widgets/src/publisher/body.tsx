import { useMemo, useRef, useState } from "preact/hooks";
import { Button, ErrorLine, formatSize, Tabs, useModel, useTrait } from "../lib";
import type { Form, Kind } from "./form";
import { formatJson, type Mistake } from "./json";

const KINDS: [Kind, string][] = [
  ["json", "JSON"],
  ["text", "Text"],
  ["file", "File"],
];
const PIECE = 384 * 1024; // bytes of a file in one message; a whole one would not fit through a server's limit

interface Props {
  form: Form;
  change: (part: Partial<Form>) => void;
  mistake: Mistake | null;
  fileMistake: string | null;
  /** Whether somebody wanted to publish: from then on what is missing is a mistake too. */
  tried: boolean;
}

export function BodyEditor({ form, change, mistake, fileMistake, tried }: Props) {
  const blank = form.text.trim() === "";
  const field = useRef<HTMLTextAreaElement>(null);
  return (
    <section class="mv-publisher-body" aria-label="Body">
      <div class="mv-publisher-head">
        <Tabs
          label="Write the body as"
          tabs={KINDS.map(([value, name]) => ({ value, name, testid: `kind-${value}` }))}
          chosen={form.kind}
          onChoose={(kind) => change({ kind })}
        />
        {form.kind === "file" ? null : <BodySize form={form} />}
        {form.kind === "json" ? (
          <Button
            kind="quiet"
            testid="format"
            disabled={mistake !== null}
            onClick={() => change({ text: formatJson(form.text) })}
          >
            Format
          </Button>
        ) : null}
      </div>
      {form.kind === "file" ? (
        <FileChooser form={form} change={change} mistake={tried ? fileMistake : null} />
      ) : (
        <>
          <textarea
            ref={field}
            class="mv-input mv-code mv-publisher-text"
            aria-label={`Body as ${form.kind === "json" ? "JSON" : "text"}`}
            aria-invalid={mistake !== null && (tried || !blank)}
            placeholder={form.kind === "json" ? '{"amount": 12}' : "What the message says"}
            data-testid="text"
            data-mv-mistake={mistake !== null || undefined}
            spellcheck={false}
            rows={Math.min(Math.max(form.text.split("\n").length, 5), 16)}
            value={form.text}
            onInput={(event) => change({ text: event.currentTarget.value })}
          />
          {mistake !== null && (tried || !blank) ? (
            <ErrorLine testid="json-mistake">
              {blank ? (
                'Write the JSON here, such as {"amount": 12}.'
              ) : (
                <>
                  <button
                    type="button"
                    class="mv-publisher-place"
                    title="Go there"
                    data-testid="json-place"
                    onClick={() => goTo(field.current, mistake.at)}
                  >
                    Line {mistake.line}, column {mistake.column}
                  </button>
                  {": "}
                  {mistake.message}
                </>
              )}
            </ErrorLine>
          ) : null}
        </>
      )}
    </section>
  );
}

function goTo(field: HTMLTextAreaElement | null, at: number): void {
  field?.focus();
  field?.setSelectionRange(at, at + 1);
}

function BodySize({ form }: { form: Form }) {
  const size = useMemo(
    () => new TextEncoder().encode(form.crlf ? form.text.replaceAll("\n", "\r\n") : form.text).length,
    [form.text, form.crlf],
  );
  return (
    <span class="mv-dim mv-publisher-size" data-testid="size">
      {form.crlf ? "CRLF line ends, " : ""}
      {formatSize(size)}
    </span>
  );
}

function FileChooser({ form, change, mistake }: Pick<Props, "form" | "change"> & { mistake: string | null }) {
  const model = useModel();
  const [limit] = useTrait<number>("_max_file");
  const [part, setPart] = useState<number | null>(null);
  const [error, setError] = useState<string | null>(null);
  const chooser = useRef<HTMLInputElement>(null);

  const upload = async (file: File): Promise<void> => {
    setError(null);
    if (file.size > limit) {
      setError(`${file.name} has ${formatSize(file.size)}, and a file can have ${formatSize(limit)} at most.`);
      return;
    }
    try {
      let kept: Form["file"] = null;
      for (let at = 0; kept === null; at += PIECE) {
        setPart(file.size === 0 ? 1 : at / file.size);
        const data = await asBase64(file.slice(at, at + PIECE));
        kept = await model.request<Form["file"]>("upload", { name: file.name, size: file.size, at, data });
      }
      change({ file: kept, kind: "file" });
    } catch (problem) {
      setError(`${file.name} could not be read: ${(problem as Error).message}`);
    } finally {
      setPart(null);
    }
  };

  return (
    <div>
      <div class="mv-publisher-file">
        <input
          ref={chooser}
          type="file"
          class="mv-hidden"
          tabIndex={-1}
          aria-hidden="true"
          data-testid="file"
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            event.currentTarget.value = "";
            if (file) void upload(file);
          }}
        />
        <Button testid="choose-file" disabled={part !== null} onClick={() => chooser.current?.click()}>
          {form.file === null ? "Choose a file…" : "Choose another…"}
        </Button>
        {part !== null ? (
          <span class="mv-dim">Reading, {Math.floor(part * 100)} %</span>
        ) : form.file === null ? (
          <span class="mv-dim">Its bytes become the body as they are.</span>
        ) : (
          <span class="mv-publisher-filename" data-testid="file-name">
            <bdi class="mv-code">{form.file.name}</bdi> <span class="mv-dim">{formatSize(form.file.size)}</span>
          </span>
        )}
      </div>
      {(error ?? mistake) ? <ErrorLine testid="file-error">{error ?? mistake}</ErrorLine> : null}
    </div>
  );
}

function asBase64(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(",", 2)[1] ?? "");
    reader.onerror = () => reject(reader.error ?? new Error("unknown reason"));
    reader.readAsDataURL(blob);
  });
}
