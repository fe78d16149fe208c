/** A worker in a process of its own, on any machine that reaches the store. */
import { availableParallelism } from "node:os";
import { SwarmError } from "@mcp-swarm/core";
import type { Guard } from "@mcp-swarm/identity";
import { type CommandHost, closeWithin, endOf, SwarmProcess } from "@mcp-swarm/server";
import { Command } from "commander";
import { LABEL_LENGTH_MAX, LABELS_MAX } from "../execution-record.ts";
import { ENVIRONMENT_NAME } from "../manifest.ts";
import { type OpenedWorker, openWorker, operatorOf } from "../open.ts";
import { type OperatorFile, SLOTS_MAX } from "../operator-file.ts";
import { WORKER_NAME_MAX, type WorkerDescription } from "../worker/worker-row.ts";
import type { WorkerSettings } from "../worker/workplace.ts";

const LABEL = /^[A-Za-z0-9][A-Za-z0-9._:/-]*$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
/** Most environments that `--environments` names. */
const ENVIRONMENTS_MAX = 50;

interface Options {
  environments?: string;
  labels?: string;
  slots?: string;
  name?: string;
}

export function workerCommand(host: CommandHost): Command {
  return new Command("worker")
    .description("Run code that the agents of a swarm hand over, on this machine, until it is stopped")
    .option("--environments <names>", "Offer these alone, separated by commas (default: all that run here)")
    .option("--labels <labels>", "What tasks may ask for, separated by commas, for example gpu,eu-west")
    .option("--slots <n>", "Runs at once (default: one for each processor)")
    .option("--name <name>", "What it is called in lists (default: the machine's name)")
    .addHelpText(
      "after",
      "\nSWARM_STORE names the store that the servers use; in a secured swarm SWARM_KEY_FILE names this worker's keys.",
    )
    .action(async (options: Options) => {
      const config = host.config();
      if (config.storeUrl === "memory:") {
        throw new SwarmError("failed_precondition", "A store in memory is no other process's.", {
          hint: "Set SWARM_STORE to the store that your servers use.",
        });
      }
      const settings = settingsOf(options, operatorOf(config));
      await work(new SwarmProcess(config, "distributed-execution-worker"), settings);
    });
}

/** What the command line says, and the operator's file where it says nothing. @throws SwarmError invalid_argument */
function settingsOf({ environments, labels, slots, name }: Options, { worker }: OperatorFile): WorkerSettings {
  const only =
    environments === undefined ? worker.environments : listOf(environments, "--environments", ENVIRONMENT_NAME, ENVIRONMENTS_MAX);
  if (name !== undefined && (name.length > WORKER_NAME_MAX || !NAME.test(name))) {
    throw new SwarmError("invalid_argument", "--name takes a plain name.", {
      hint: `Use up to ${WORKER_NAME_MAX} letters, digits and . _ -`,
    });
  }
  return {
    kind: "worker",
    labels: labels === undefined ? (worker.labels ?? []) : listOf(labels, "--labels", LABEL, LABELS_MAX).sort(),
    slots: slots === undefined ? (worker.slots ?? availableParallelism()) : slotsOf(slots),
    ...(only === undefined ? {} : { environments: only }),
    ...(name === undefined ? {} : { name }),
  };
}

function listOf(text: string, option: string, form: RegExp, max: number): string[] {
  const words = [...new Set(text.split(",").map((word) => word.trim()))];
  if (words.length <= max && words.every((word) => word.length <= LABEL_LENGTH_MAX && form.test(word))) return words;
  throw new SwarmError("invalid_argument", `${option} takes names separated by commas.`, {
    hint: `At most ${max}, each of up to ${LABEL_LENGTH_MAX} letters, digits and . _ : / -`,
  });
}

function slotsOf(text: string): number {
  const slots = /^\d+$/.test(text) ? Number(text) : 0;
  if (slots >= 1 && slots <= SLOTS_MAX) return slots;
  throw new SwarmError("invalid_argument", `--slots takes a whole number from 1 to ${SLOTS_MAX}.`);
}

/** Works whenever this process may, until it is told to end; then gives back what runs. */
async function work(swarm: SwarmProcess, settings: WorkerSettings): Promise<void> {
  const { store, presence, guard, security } = await swarm.ground();
  const { config, clock, random, log, processId } = swarm;
  let open: OpenedWorker | undefined;
  let ending = false;
  const follow = async (): Promise<void> => {
    const refusal = ending ? ENDING : refusalOf(guard);
    if (refusal === undefined && !open) {
      const secured = security ? { signatures: security.trust, security } : {};
      open = await openWorker({ store, presence, config, clock, random, log, processId, ...secured }, settings);
      const begun = open;
      say(begun.describe());
      begun.tried.then(
        () => sayOffers(begun.describe(), settings.environments),
        () => {}, // it was logged
      );
    } else if (refusal !== undefined) {
      const closing = open;
      open = undefined;
      await closing?.close();
    } else open?.standingChanged();
  };
  let last = follow();
  guard.onChange(() => {
    last = last
      .then(follow)
      .catch((error: unknown) => log.error({ err: error }, "The worker did not follow a change of its standing"));
  });
  try {
    const refusal = refusalOf(guard);
    if (refusal !== undefined) throw refusal;
    await last;
  } catch (error) {
    await swarm.close();
    throw error;
  }
  // neither the watch of a file nor a timer of ours keeps a process alive
  const alive = setInterval(() => {}, 2 ** 30);
  await endOf();
  clearInterval(alive);
  ending = true;
  await closeWithin([() => last.then(follow), () => swarm.close()]);
}

/** Stands for the reason when the process ends. */
const ENDING = new SwarmError("unavailable", "The worker is being stopped.");

function refusalOf(guard: Guard): unknown {
  try {
    guard.checkProcess();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** For the person who started it. */
function say({ id, name, slots, labels }: WorkerDescription): void {
  const labelled = labels.length > 0 ? `, labels ${labels.join(", ")}` : "";
  process.stderr.write(`Worker ${id} (${name}) runs ${slots} at once${labelled}.\n`);
}

/** Those that it was started for, or all. */
function sayOffers({ offers }: WorkerDescription, only?: readonly string[]): void {
  const known = new Map(offers.map((offer) => [offer.environment, offer]));
  const lines = [...(only ?? known.keys())].sort().map((name) => {
    const offer = known.get(name);
    if (!offer) return `  ${name}: there is no such environment now; it is offered when somebody has made it\n`;
    return `  ${name}: ${offer.available ? offer.driver : `not here. ${offer.reason}`}\n`;
  });
  process.stderr.write(lines.join(""));
}
