import { useEffect, useRef, useState } from "preact/hooks";
import { type Body, BodyView } from "./body";
import { Button, ErrorLine } from "./controls";
import { formatSize } from "./format";

const MORE = 1_000_000; // bytes that one click of "Show more" adds
const MOST = 16_000_000; // a page gets slow with more

interface Props {
  /** The first piece of it, as `msgviz.widgets._base.body_piece` sends it. */
  body: Body | null;
  /** Asks the kernel for the piece that begins with this byte. */
  ask: (at: number) => Promise<Body>;
}

/** A body, a long one piece by piece. */
export function LongBody({ body: first, ask }: Props) {
  const [body, setBody] = useState(first);
  const [loading, setLoading] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const wanted = useRef(first);

  useEffect(() => {
    wanted.current = first;
    setBody(first);
    setLoading(false);
    setError(null);
  }, [first]);

  const load = async (until: number): Promise<void> => {
    if (body === null) return;
    setLoading(true);
    setError(null);
    try {
      let base64 = body.base64;
      while (wanted.current === first && bytesIn(base64) < Math.min(until, body.size)) {
        const piece = await ask(bytesIn(base64));
        base64 += piece.base64;
      }
      if (wanted.current === first) setBody({ ...body, base64 });
    } catch (problem) {
      if (wanted.current === first) setError((problem as Error).message);
    } finally {
      if (wanted.current === first) setLoading(false);
    }
  };

  const have = body === null ? 0 : bytesIn(body.base64);
  const left = body === null ? 0 : body.size - have;
  return (
    <>
      <BodyView body={body} />
      {body !== null && left > 0 ? (
        <div class="mv-body-more" data-testid="body-cut">
          <span class="mv-dim">
            {formatSize(left)} more {loading ? "are being read…" : "are not shown."}
          </span>
          {have < MOST && left > MORE ? (
            <Button testid="body-more" disabled={loading} onClick={() => void load(have + MORE)}>
              Show {formatSize(MORE)} more
            </Button>
          ) : null}
          {body.size <= MOST ? (
            <Button testid="body-all" disabled={loading} onClick={() => void load(body.size)}>
              Show all
            </Button>
          ) : null}
        </div>
      ) : null}
      {error === null ? null : <ErrorLine>{error}</ErrorLine>}
    </>
  );
}

function bytesIn(base64: string): number {
  const padding = base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0;
  return (base64.length / 4) * 3 - padding;
}
