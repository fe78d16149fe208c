/**
 * Templates: workflows with declared, typed parameters, filled in without logic. `{{name}}` stands for a parameter in names,
 * titles, descriptions, expected outputs, file globs and in texts within a task's parameters.
 *
 * A value stays a value: it is put in once and never read as a placeholder again, keys and ids take no placeholders, and in a
 * glob it may be a plain path only.
 *
 * | key | value | why |
 * |---|---|---|
 * | `workflow-template/<id>` | TemplateRecord | what the list shows, in the order of ids |
 * | `workflow-template-tasks/<id>` | TemplateTasks | its tasks, which a list would read in vain |
 */

import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import type { FailurePolicy } from "@mcp-swarm/coordination/tasks";
import { type Json, type JsonObject, PAGE_DEFAULT, PAGE_MAX, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import { prefixRange, type Store, segment, type Transaction } from "@mcp-swarm/store";
import type { NewTask } from "./new-task.ts";
import { checkTaskId, NOTE_CHARS_MAX, TITLE_CHARS_MAX } from "./task-record.ts";
import { WORKFLOW_NAME_CHARS_MAX } from "./workflow-record.ts";
import { membersOf, type NewMembers } from "./workflow-tasks.ts";

export const PARAMETER_TYPES = ["string", "number", "boolean", "enum"] as const;
export const PARAMETERS_MAX = 50;
export const ENUM_VALUES_MAX = 50;
export const PARAMETER_NAME = /^[A-Za-z][A-Za-z0-9_]{0,31}$/;
/** Longest text that a parameter may have. */
export const PARAMETER_CHARS_MAX = NOTE_CHARS_MAX;

export type ParameterValue = string | number | boolean;

export type TemplateParameter = {
  readonly name: string;
  readonly type: (typeof PARAMETER_TYPES)[number];
  /** Must be given when it has no default. */
  readonly required?: boolean | undefined;
  readonly default?: ParameterValue | undefined;
  readonly description?: string | undefined;
  /** What an enum may be. */
  readonly values?: readonly string[] | undefined;
};

export type NewTemplate = NewMembers & {
  readonly id: string;
  readonly name?: string | undefined;
  readonly description?: string | undefined;
  readonly parameters?: readonly TemplateParameter[] | undefined;
  readonly onFailure?: FailurePolicy | undefined;
};

/** A template as it is listed. */
export type TemplateRecord = {
  readonly id: string;
  readonly name: string;
  readonly description?: string | undefined;
  readonly parameters: readonly TemplateParameter[];
  readonly onFailure?: FailurePolicy | undefined;
  readonly totalTasks: number;
  /** 1 when it was first saved, one more each time it was replaced. */
  readonly version: number;
  readonly savedAt: number;
  readonly savedBy: string;
};

type TemplateTasks = {
  readonly tasks: readonly NewTask[];
  readonly dependencies?: { readonly [taskId: string]: readonly string[] } | undefined;
};

/** All that placeholders may be in, and what goes with it. */
type Fillable = Pick<TemplateRecord, "name" | "onFailure"> & TemplateTasks;

export type TemplatePage = { readonly templates: readonly TemplateRecord[]; readonly nextCursor?: string };

type Values = ReadonlyMap<string, ParameterValue | undefined>;

const PREFIX = "workflow-template/";
const templateKey = (id: string): string => `${PREFIX}${segment(id)}`;
const tasksKey = (id: string): string => `workflow-template-tasks/${segment(id)}`;
const PLACEHOLDER = /\{\{\s*([A-Za-z][A-Za-z0-9_]*)\s*\}\}/g;
const WHOLE_PLACEHOLDER = /^\{\{\s*([A-Za-z][A-Za-z0-9_]*)\s*\}\}$/;
/** A path without anything that a glob reads as more than itself. */
const PLAIN_PATH = /^[\w@+-][\w@+.-]*(\/[\w@+-][\w@+.-]*)*$/;
/** Stands for a text when a template is tried out. */
const SAMPLE = "x";

function refuse(message: string, hint: string): never {
  throw new SwarmError("invalid_argument", message, { hint });
}

/** @throws SwarmError invalid_argument naming the parameter */
function checkValue({ name, type, values = [] }: TemplateParameter, value: unknown): ParameterValue {
  const wrong = (what: string) => refuse(`Parameter ${name} must be ${what}.`, "list_workflow_templates shows the parameters.");
  switch (type) {
    case "string":
      if (typeof value !== "string" || value.length > PARAMETER_CHARS_MAX) {
        return wrong(`a text of at most ${PARAMETER_CHARS_MAX} characters`);
      }
      return value;
    case "number":
      return typeof value === "number" && Number.isFinite(value) ? value : wrong("a number");
    case "boolean":
      return typeof value === "boolean" ? value : wrong("true or false");
    case "enum":
      return typeof value === "string" && values.includes(value) ? value : wrong("one of its declared values");
  }
}

/** @throws SwarmError invalid_argument naming each parameter that is unknown, missing or of another type */
export function parameterValues(declared: readonly TemplateParameter[], given: JsonObject): Values {
  const unknown = Object.keys(given).filter((name) => !declared.some((parameter) => parameter.name === name));
  if (unknown.length > 0) {
    // a name that is not one was made up by the caller and is not repeated
    const named = unknown.filter((name) => PARAMETER_NAME.test(name)).join(", ");
    refuse(
      `The template has no such parameter${named === "" ? "" : `: ${named}`}.`,
      "list_workflow_templates shows those it has.",
    );
  }
  const missing = declared.filter(
    (parameter) => !Object.hasOwn(given, parameter.name) && parameter.default === undefined && parameter.required === true,
  );
  if (missing.length > 0) {
    refuse(`These parameters are missing: ${missing.map(({ name }) => name).join(", ")}.`, "Give them in parameters.");
  }
  return new Map(
    declared.map((parameter) => {
      const value = Object.hasOwn(given, parameter.name) ? given[parameter.name] : parameter.default;
      return [parameter.name, value === undefined ? undefined : checkValue(parameter, value)];
    }),
  );
}

function filled(values: Values, name: string): ParameterValue | undefined {
  if (values.has(name)) return values.get(name);
  return refuse(`The placeholder ${name} stands for no declared parameter.`, "Declare it in parameters, or take it out.");
}

/** A text with its placeholders filled in; one without a value leaves nothing. */
export function fillText(text: string, values: Values): string {
  return text.replaceAll(PLACEHOLDER, (_, name: string) => String(filled(values, name) ?? ""));
}

/** JSON with the placeholders in its texts filled in. A placeholder that is a whole text keeps the parameter's type. */
export function fillJson(json: Json, values: Values): Json {
  if (typeof json === "string") {
    const whole = WHOLE_PLACEHOLDER.exec(json)?.[1];
    return whole === undefined ? fillText(json, values) : (filled(values, whole) ?? null);
  }
  if (json === null || typeof json !== "object") return json;
  if (Array.isArray(json)) return json.map((item: Json) => fillJson(item, values));
  return fillObject(json as JsonObject, values);
}

function fillObject(object: JsonObject, values: Values): JsonObject {
  return Object.fromEntries(
    Object.entries(object).map(([name, member]) => [name, member === undefined ? undefined : fillJson(member, values)]),
  );
}

function fillGlob(glob: string, values: Values): string {
  return glob.replaceAll(PLACEHOLDER, (_, name: string) => {
    const value = String(filled(values, name) ?? "");
    if (PLAIN_PATH.test(value)) return value;
    return refuse(
      `Parameter ${name} is part of a file glob and must be a plain path.`,
      "Use letters, digits and . _ @ + - / in it.",
    );
  });
}

type Texts = Pick<NewTask, "title" | "description" | "expectedOutput" | "parameters" | "files">;

function fillTexts<T extends Texts>(task: T, values: Values): T {
  const text = (value: string | undefined) => (value === undefined ? undefined : fillText(value, values));
  return {
    ...task,
    title: text(task.title),
    description: fillText(task.description, values),
    expectedOutput: text(task.expectedOutput),
    parameters: task.parameters === undefined ? undefined : fillObject(task.parameters, values),
    files: task.files?.map((glob) => fillGlob(glob, values)),
  };
}

function fillTask(task: NewTask, values: Values): NewTask {
  const filled = fillTexts(task, values);
  return task.rollback === undefined ? filled : { ...filled, rollback: fillTexts(task.rollback, values) };
}

/** What a workflow is made from. */
export interface Instance extends NewMembers {
  readonly name: string;
  readonly onFailure?: FailurePolicy | undefined;
}

/** @throws SwarmError invalid_argument naming the parameter or the placeholder */
function instanceOf(template: Fillable, values: Values): Instance {
  return {
    name: fillText(template.name, values),
    tasks: template.tasks.map((task) => fillTask(task, values)),
    dependencies: template.dependencies,
    onFailure: template.onFailure,
  };
}

/**
 * What a template makes of parameters, read in the transaction that makes the workflow.
 * @throws SwarmError not_found, invalid_argument naming the parameter
 */
export function fillTemplate(tx: Transaction, templateId: string, parameters: JsonObject): Instance {
  const template = tx.get(templateKey(checkTemplateId(templateId)))?.value as TemplateRecord | undefined;
  const tasks = tx.get(tasksKey(templateId))?.value as TemplateTasks | undefined;
  if (template && tasks) {
    return instanceOf({ ...template, ...tasks }, parameterValues(template.parameters, parameters));
  }
  throw new SwarmError("not_found", `There is no workflow template ${templateId}.`, {
    hint: "list_workflow_templates lists them.",
  });
}

export function templateRead(templateId: string): string[] {
  return [templateKey(templateId), tasksKey(templateId)];
}

const TEMPLATE_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

function checkTemplateId(id: string): string {
  if (TEMPLATE_ID.test(id)) return id;
  return refuse("Not a template id.", "Use up to 64 letters, digits and . _ - , beginning with a letter or digit.");
}

function checkParameters(parameters: readonly TemplateParameter[]): void {
  if (parameters.length > PARAMETERS_MAX) refuse(`A template has at most ${PARAMETERS_MAX} parameters.`, "Use fewer.");
  const seen = new Set<string>();
  for (const parameter of parameters) {
    const { name, type, values = [], description } = parameter;
    if (!PARAMETER_NAME.test(name)) {
      refuse("A parameter's name is not one.", "Use up to 32 letters, digits and _ , beginning with a letter.");
    }
    if (seen.has(name)) refuse(`Two parameters are called ${name}.`, "Give each a name of its own.");
    seen.add(name);
    if ((type === "enum") !== values.length > 0 || values.length > ENUM_VALUES_MAX) {
      refuse(
        `Parameter ${name} has values exactly when it is an enum, at most ${ENUM_VALUES_MAX}.`,
        "Correct its type or values.",
      );
    }
    if (values.some((value) => value.length < 1 || value.length > TITLE_CHARS_MAX)) {
      refuse(`A value of parameter ${name} has a wrong length.`, `Use 1 to ${TITLE_CHARS_MAX} characters.`);
    }
    if (description !== undefined && description.length > TITLE_CHARS_MAX) {
      refuse(`The description of parameter ${name} is too long.`, `Use at most ${TITLE_CHARS_MAX} characters.`);
    }
    if (parameter.default !== undefined) checkValue(parameter, parameter.default);
  }
}

/** A value of each parameter's type, to try a template out with. */
function sampleOf({ type, values = [] }: TemplateParameter): ParameterValue {
  switch (type) {
    case "string":
      return SAMPLE;
    case "number":
      return 1;
    case "boolean":
      return true;
    case "enum":
      return values[0] ?? SAMPLE;
  }
}

export class WorkflowTemplates {
  readonly #random: Random;

  constructor(options: { random: Random }) {
    this.#random = options.random;
  }

  /**
   * Saves a template, or replaces the one with its id; workflows made from it stay as they are.
   * @throws SwarmError invalid_argument (what is wrong is named), limit_exceeded (larger than a record)
   */
  async save(call: Call, input: NewTemplate): Promise<{ template: TemplateRecord }> {
    const id = checkTemplateId(input.id);
    const by = speakAs(call.caller, undefined);
    const { parameters = [], name = id, description, dependencies, onFailure } = input;
    checkParameters(parameters);
    if (name.length < 1 || name.length > WORKFLOW_NAME_CHARS_MAX) {
      refuse(`name must have 1 to ${WORKFLOW_NAME_CHARS_MAX} characters.`, "Use a shorter one.");
    }
    if (description !== undefined && description.length > NOTE_CHARS_MAX) {
      refuse(`description may have at most ${NOTE_CHARS_MAX} characters.`, "Use a shorter one.");
    }
    const tasks = input.tasks.map((task, at) => ({ ...task, id: checkTaskId(task.id ?? `task-${at + 1}`) }));
    // tried out, so that what cannot become a workflow is refused now
    const samples = new Map(parameters.map((parameter) => [parameter.name, sampleOf(parameter)]));
    membersOf("template", instanceOf({ name, tasks, dependencies, onFailure }, samples), this.#random);
    const body: TemplateTasks = { tasks, dependencies };
    const template = await call.transact((tx): TemplateRecord => {
      const before = tx.get(templateKey(id))?.value as TemplateRecord | undefined;
      const version = (before?.version ?? 0) + 1;
      const totalTasks = tasks.length;
      const record: TemplateRecord = {
        id,
        name,
        description,
        parameters,
        onFailure,
        totalTasks,
        version,
        savedAt: tx.now,
        savedBy: by,
      };
      tx.put(templateKey(id), record);
      tx.put(tasksKey(id), body);
      return record;
    });
    return { template };
  }

  /** In the order of ids. @throws SwarmError invalid_argument */
  async list(
    store: Store,
    { limit = PAGE_DEFAULT, cursor }: { limit?: number | undefined; cursor?: string | undefined },
  ): Promise<TemplatePage> {
    if (!Number.isInteger(limit) || limit < 1 || limit > PAGE_MAX) refuse("limit is out of bounds.", `Use 1 to ${PAGE_MAX}.`);
    const scope = { list: "templates", prefix: PREFIX };
    const after = cursor === undefined ? {} : { after: decodeCursor(scope, cursor) };
    const entries = await store.scan(prefixRange(PREFIX, limit + 1, after));
    const page = entries.slice(0, limit);
    const templates = page.map(({ value }) => value as TemplateRecord);
    const last = page.at(-1);
    return last && entries.length > limit ? { templates, nextCursor: encodeCursor(scope, last.key) } : { templates };
  }
}
