/** Output of a process without a terminal, as an engine sends it: a header of eight bytes says which stream so many bytes belong to. */

const HEADER_BYTES = 8;
/** Docker Engine API, "Stream format". */
const STREAMS = ["stdout", "stdout", "stderr"] as const;

/**
 * Passes on what comes, in whatever pieces it comes; it holds no more than a header.
 * @returns takes the next piece; throws when it is not of this format
 */
export function demultiplexer(onOutput: (stream: "stdout" | "stderr", bytes: Uint8Array) => void): (piece: Buffer) => void {
  let header = Buffer.alloc(0);
  let left = 0;
  let stream: "stdout" | "stderr" = "stdout";
  return (piece) => {
    let rest = piece;
    while (rest.length > 0) {
      if (left === 0) {
        const more = rest.subarray(0, HEADER_BYTES - header.length);
        header = Buffer.concat([header, more]);
        rest = rest.subarray(more.length);
        if (header.length < HEADER_BYTES) return;
        const name = STREAMS[header.readUInt8(0)];
        if (name === undefined) throw new Error("the engine sent output of no known stream");
        stream = name;
        left = header.readUInt32BE(4);
        header = Buffer.alloc(0);
        continue;
      }
      const bytes = rest.subarray(0, left);
      left -= bytes.length;
      rest = rest.subarray(bytes.length);
      onOutput(stream, bytes);
    }
  };
}
