import { type JsonNode, parseJson } from "./json";

/** What keeps a text from being JSON, in plain words; null where nothing does. */
export function jsonProblem(text: string): string | null {
  if (text.trim() === "") return "it is empty";
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return (error as Error).message.replace(/^JSON\.parse: /, "").replace(/ in JSON at/, " at");
  }
}

/** JSON with two spaces of indentation; numbers stay as they were written. */
export function formatJson(text: string): string {
  const node = parseJson(text);
  return node ? format(node, "") : text;
}

function format(node: JsonNode, indent: string): string {
  const inner = `${indent}  `;
  if (node.kind === "object") {
    const lines = node.entries.map(([key, value]) => `${inner}${JSON.stringify(key)}: ${format(value, inner)}`);
    return lines.length ? `{\n${lines.join(",\n")}\n${indent}}` : "{}";
  }
  if (node.kind === "array") {
    const lines = node.items.map((item) => inner + format(item, inner));
    return lines.length ? `[\n${lines.join(",\n")}\n${indent}]` : "[]";
  }
  return node.kind === "string" ? JSON.stringify(node.text) : node.text;
}
