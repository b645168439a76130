/** JSON while it is being written: where the first mistake is, in words, and the text set out well. */

export interface Mistake {
  /** Where, in UTF-16 units from the start of the text. */
  at: number;
  line: number;
  /** In characters, from 1. */
  column: number;
  message: string;
}

const SPACE = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /[^\s,:{}[\]"']+/y;
const MAX_DEPTH = 500;

class Wrong extends Error {
  constructor(
    readonly at: number,
    message: string,
  ) {
    super(message);
  }
}

/** The first mistake in a JSON text; null where it has none. */
export function findMistake(text: string): Mistake | null {
  try {
    read(text);
    return null;
  } catch (error) {
    if (!(error instanceof Wrong)) throw error;
    const before = text.slice(0, error.at);
    const start = before.lastIndexOf("\n") + 1;
    return {
      at: error.at,
      line: before.split("\n").length,
      column: [...before.slice(start)].length + 1,
      message: error.message,
    };
  }
}

/** The text with one value a line. Numbers and strings stay as they were written. */
export function formatJson(text: string): string {
  return read(text);
}

function read(text: string): string {
  let at = 0;

  function take(pattern: RegExp): string {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0] ?? "";
    at += found.length;
    return found;
  }

  /** The next sign, after white space; empty at the end of the text. */
  function peek(): string {
    take(SPACE);
    return text[at] ?? "";
  }

  function name(): string {
    return text[at] === undefined ? "the end" : `“${String.fromCodePoint(text.codePointAt(at) ?? 0)}”`;
  }

  function string(): string {
    const start = at;
    at += 1;
    for (;;) {
      take(PLAIN);
      const next = text[at];
      if (next === '"') {
        at += 1;
        return text.slice(start, at);
      }
      if (next === undefined) throw new Wrong(start, "This string has no closing quote.");
      if (next === "\n" || next === "\r") {
        throw new Wrong(start, "This string is not closed on its line. A line break in it is written \\n.");
      }
      if (next !== "\\") throw new Wrong(at, "A tab or control character in a string is written with a \\.");
      if (take(ESCAPE) === "") throw new Wrong(at, "A \\ in a string is written \\\\.");
    }
  }

  function scalar(): string {
    const start = at;
    const sign = text[at] ?? "";
    if (sign === '"') return string();
    if (sign === "'") throw new Wrong(at, 'A string stands in double quotes: "…"');
    const word = take(WORD);
    if (word === "true" || word === "false" || word === "null") return word;
    at = start;
    const number = take(NUMBER);
    if (word !== "" && number === word) return number;
    throw new Wrong(start, about(word));
  }

  function about(word: string): string {
    if (word === "") return `A value is missing before ${name()}.`;
    const small = word.toLowerCase();
    if (small === "true" || small === "false" || small === "null") return `Write ${small} in small letters.`;
    if (word === "None") return "JSON has null, not None.";
    if (/^[+-]?(nan|inf|infinity|undefined)$/i.test(word)) return `JSON has no ${word}. null may do.`;
    if (/^-?0\d/.test(word)) return "A number has no 0 in front.";
    if (/^\+\d/.test(word)) return "A number has no + in front.";
    if (/^-?\d*\.(\D|$)|^-?\.\d/.test(word)) return "A number has digits on both sides of its point.";
    if (/^-?\d/.test(word)) return `${short(word)} is not a number.`;
    return `A string stands in double quotes: "${short(word)}"`;
  }

  function value(depth: number, indent: string): string {
    const sign = peek();
    if (sign !== "{" && sign !== "[") return scalar();
    if (depth > MAX_DEPTH) throw new Wrong(at, `This is nested more than ${MAX_DEPTH} levels deep.`);
    const opened = at;
    const end = sign === "{" ? "}" : "]";
    const inner = `${indent}  `;
    const parts: string[] = [];
    at += 1;
    if (peek() === end) {
      at += 1;
      return sign + end;
    }
    for (;;) {
      let part = "";
      if (sign === "{") {
        if (peek() === "") throw new Wrong(opened, "This { is never closed by a }.");
        if (text[at] === "}") throw new Wrong(at, "There is a comma too many before }.");
        if (text[at] !== '"') throw new Wrong(at, 'A key stands in double quotes: "key": value');
        const key = string();
        if (peek() !== ":") throw new Wrong(at, `A : is missing after the key ${short(key)}.`);
        at += 1;
        part = `${key}: `;
      } else if (peek() === "]") {
        throw new Wrong(at, "There is a comma too many before ].");
      }
      parts.push(part + value(depth + 1, inner));
      const next = peek();
      if (next === end) break;
      if (next === "") throw new Wrong(opened, `This ${sign} is never closed by a ${end}.`);
      if (next !== ",") throw new Wrong(at, `A comma or ${end} is missing before ${name()}.`);
      at += 1;
    }
    at += 1;
    return `${sign}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${end}`;
  }

  const result = value(0, "");
  if (peek() !== "") throw new Wrong(at, `Nothing may follow the value, but ${name()} does.`);
  return result;
}

function short(text: string): string {
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}
