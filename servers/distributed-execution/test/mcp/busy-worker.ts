/** A worker in the middle of a task: its server stays silent, ignores signals and has let something loose. Killed by a test. */
import { Lab, odd } from "./support.ts";

const [, , kind, marker = ""] = process.argv;
const lab = new Lab({ mcpServers: { odd: odd("stubborn", {}, marker) } }, kind === "group" ? { leash: "group" } : {});
await lab.call(kind === "group" ? "silent" : "stays", {}, { limits: { wallMs: 600_000 } });
