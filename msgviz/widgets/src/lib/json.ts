/**
 * A JSON parser for looking at: numbers stay as they were written (JSON.parse would round
 * 12345678901234567890), a key that comes twice is shown twice, and the order is kept.
 */
export type JsonNode =
  | { kind: "object"; entries: [key: string, value: JsonNode][] }
  | { kind: "array"; items: JsonNode[] }
  | { kind: "string"; text: string }
  | { kind: "number" | "boolean" | "null"; text: string };

const SPACE = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const MAX_DEPTH = 200;

/** The tree of a JSON text; undefined where it is no JSON, or nested too deep to look at. */
export function parseJson(text: string): JsonNode | undefined {
  let at = 0;

  function take(pattern: RegExp): string | undefined {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  }

  function takeSign(sign: string): boolean {
    take(SPACE);
    if (text[at] !== sign) return false;
    at += 1;
    return true;
  }

  /** A string as it was written. Piece by piece: one pattern for all of a long one overflows the stack. */
  function takeString(): string | undefined {
    const start = at;
    if (text[at] !== '"') return undefined;
    at += 1;
    do take(PLAIN);
    while (take(ESCAPE) !== undefined);
    return text[at++] === '"' ? text.slice(start, at) : undefined;
  }

  function value(depth: number): JsonNode | undefined {
    if (depth > MAX_DEPTH) return undefined;
    if (takeSign("{")) return object(depth);
    if (takeSign("[")) return array(depth);
    const string = takeString();
    if (string !== undefined) return { kind: "string", text: JSON.parse(string) as string };
    const number = take(NUMBER);
    if (number !== undefined) return { kind: "number", text: number };
    const word = take(WORD);
    if (word !== undefined) return { kind: word === "null" ? "null" : "boolean", text: word };
    return undefined;
  }

  function object(depth: number): JsonNode | undefined {
    const entries: [string, JsonNode][] = [];
    if (takeSign("}")) return { kind: "object", entries };
    do {
      take(SPACE);
      const key = takeString();
      if (key === undefined || !takeSign(":")) return undefined;
      const item = value(depth + 1);
      if (item === undefined) return undefined;
      entries.push([JSON.parse(key) as string, item]);
    } while (takeSign(","));
    return takeSign("}") ? { kind: "object", entries } : undefined;
  }

  function array(depth: number): JsonNode | undefined {
    const items: JsonNode[] = [];
    if (takeSign("]")) return { kind: "array", items };
    do {
      const item = value(depth + 1);
      if (item === undefined) return undefined;
      items.push(item);
    } while (takeSign(","));
    return takeSign("]") ? { kind: "array", items } : undefined;
  }

  const root = value(0);
  take(SPACE);
  return at === text.length ? root : undefined;
}
