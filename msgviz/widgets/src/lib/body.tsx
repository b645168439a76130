import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { Tabs } from "./controls";
import { formatSize } from "./format";
import { type JsonNode, parseJson } from "./json";

/** A message's body as `msgviz.widgets._base.body_content` sends it. */
export interface Body {
  base64: string;
  /** Bytes of the whole body; more than `base64` holds where that was cut. */
  size: number;
}

type Form = "json" | "text" | "hex";
const NAMES: Record<Form, string> = { json: "JSON", text: "Text", hex: "Hex" };
const HEX_BYTES = 4096; // bytes shown as hex before asking for more: each is four characters of page
const MAX_JSON = 4_000_000; // characters; the tree of more takes seconds to make
const BLOCK = 16_000; // characters of text in one element, laid out only when it is scrolled to
const MAX_STRING = 2000; // characters of a string in a tree shown before asking for more

/** A body as a JSON tree, text or hex: whichever fits it best, until the person chooses another. */
export function BodyView({ body }: { body: Body | null }) {
  const [chosen, setChosen] = useState<Form | null>(null);
  const bytes = useMemo(() => (body ? decode(body.base64) : new Uint8Array()), [body?.base64]);
  const whole = body !== null && bytes.length === body.size;
  const text = useMemo(() => asText(bytes, whole), [bytes, whole]);
  const json = useMemo(() => {
    return whole && text !== undefined && text.length <= MAX_JSON ? parseJson(text) : undefined;
  }, [text, whole]);

  if (body === null) return <div class="mv-dim">The log did not keep this body.</div>;
  if (body.size === 0) return <div class="mv-dim">The body is empty.</div>;
  const forms: Form[] = [...(json ? ["json" as const] : []), ...(text === undefined ? [] : ["text" as const]), "hex"];
  const form = chosen !== null && forms.includes(chosen) ? chosen : (forms[0] ?? "hex");
  return (
    <div class="mv-body" data-testid="body" data-form={form}>
      <div class="mv-body-bar">
        <Tabs
          label="Show the body as"
          tabs={forms.map((value) => ({ value, name: NAMES[value], testid: `body-${value}` }))}
          chosen={form}
          onChoose={setChosen}
        />
        <span class="mv-dim">
          {whole ? formatSize(body.size) : `first ${formatSize(bytes.length)} of ${formatSize(body.size)}`}
        </span>
      </div>
      <div class="mv-body-content" tabIndex={0} role="region" aria-label="Body">
        {form === "json" && json ? <JsonTree node={json} /> : null}
        {form === "text" && text !== undefined ? <Text text={text} /> : null}
        {form === "hex" ? <Hex bytes={bytes} /> : null}
      </div>
    </div>
  );
}

function decode(base64: string): Uint8Array {
  const characters = atob(base64);
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = characters.charCodeAt(at);
  return bytes;
}

/** UTF-8 text, or undefined where the bytes are not that. */
function asText(bytes: Uint8Array, whole: boolean): string | undefined {
  try {
    // `stream` forgives a character that the cut went through.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: !whole });
    return /[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** Text of any length, in blocks that end with a line where they can. */
function Text({ text }: { text: string }) {
  const blocks = useMemo(() => {
    const made: string[] = [];
    for (let start = 0; start < text.length; start += made.at(-1)?.length ?? 1) {
      let block = text.slice(start, start + BLOCK);
      if (start + BLOCK < text.length) {
        block = block.slice(0, block.lastIndexOf("\n") + 1) || block.replace(/[\ud800-\udbff]$/, "");
      }
      made.push(block);
    }
    return made;
  }, [text]);
  if (blocks.length === 1) return <pre>{text}</pre>;
  return (
    <>
      {blocks.map((block, index) => (
        <pre key={index} class="mv-block" style={{ containIntrinsicHeight: `auto ${guessLines(block)}lh` }}>
          {block}
        </pre>
      ))}
    </>
  );
}

function guessLines(block: string): number {
  return Math.max(block.split("\n").length, Math.round(block.length / 100));
}

function Hex({ bytes }: { bytes: Uint8Array }) {
  const [shown, setShown] = useState(HEX_BYTES);
  const lines: string[] = [];
  const digits = bytes.length > 0x10000 ? 6 : 4; // two of them less, and two columns of hex fit beside each other
  for (let at = 0; at < Math.min(bytes.length, shown); at += 16) {
    const line = [...bytes.subarray(at, at + 16)];
    const hex = line.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = line.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(digits, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  return (
    <>
      <pre class="mv-hex">{lines.join("\n")}</pre>
      {bytes.length > shown ? (
        <More onClick={() => setShown(shown + 4 * HEX_BYTES)}>{formatSize(bytes.length - shown)} more</More>
      ) : null}
    </>
  );
}

function More({ children, onClick }: { children: ComponentChildren; onClick: () => void }) {
  return (
    <button type="button" class="mv-json-fold" onClick={onClick}>
      <span class="mv-dim">… {children}</span>
    </button>
  );
}

function LongString({ text }: { text: string }) {
  const [open, setOpen] = useState(false);
  const rest = text.length - MAX_STRING;
  if (rest <= 0 || open) return <span class="mv-json-string">{JSON.stringify(text)}</span>;
  return (
    <>
      <span class="mv-json-string">{JSON.stringify(text.slice(0, MAX_STRING)).slice(0, -1)}</span>
      <More onClick={() => setOpen(true)}>{rest.toLocaleString("en")} characters more</More>
    </>
  );
}

const OPEN_ITEMS = 20; // containers up to this size start open
const PAGE = 100; // items of a long container shown before asking for more

function JsonTree({ node }: { node: JsonNode }) {
  return (
    <div class="mv-json">
      <JsonLine node={node} name={null} depth={0} />
    </div>
  );
}

function JsonLine({ node, name, depth }: { node: JsonNode; name: string | null; depth: number }) {
  const size = node.kind === "object" ? node.entries.length : node.kind === "array" ? node.items.length : 0;
  const [open, setOpen] = useState(depth === 0 || (depth < 3 && size <= OPEN_ITEMS));
  const [shown, setShown] = useState(PAGE);
  const label = name === null ? null : <span class="mv-json-key">{name}: </span>;
  if (node.kind !== "object" && node.kind !== "array") {
    return (
      <div class="mv-json-line">
        {label}
        {node.kind === "string" ? (
          <LongString text={node.text} />
        ) : (
          <span class={`mv-json-${node.kind}`}>{node.text}</span>
        )}
      </div>
    );
  }
  const [start, end] = node.kind === "object" ? "{}" : "[]";
  if (size === 0) {
    return (
      <div class="mv-json-line">
        {label}
        {start}
        {end}
      </div>
    );
  }
  const children: [string | null, JsonNode][] =
    node.kind === "object"
      ? node.entries.slice(0, shown)
      : node.items.slice(0, shown).map((item, index) => [String(index), item]);
  return (
    <div>
      <button type="button" class="mv-json-fold" aria-expanded={open} onClick={() => setOpen(!open)}>
        {label}
        {open ? start : `${start} … ${end}`} <span class="mv-dim">{size}</span>
      </button>
      {open ? (
        <div class="mv-json-children">
          {children.map(([key, child], index) => (
            <JsonLine key={index} name={key} node={child} depth={depth + 1} />
          ))}
          {size > shown ? (
            <More onClick={() => setShown(shown + PAGE)}>{size - shown} more</More>
          ) : null}
        </div>
      ) : null}
    </div>
  );
}
