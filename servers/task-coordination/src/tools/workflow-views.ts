/** Workflows as a model reads them: short, with a way to read what was left out. */
import type { WorkflowError } from "@mcp-swarm/coordination/tasks";
import { cut, fit } from "@mcp-swarm/server";
import type { z } from "zod";
import type { WorkflowStatus } from "../workflow-reading.ts";
import type { WorkflowRecord } from "../workflow-record.ts";
import type { TemplateParameter, TemplateRecord } from "../workflow-template.ts";
import type { template } from "./list-workflow-templates.ts";
import type { taskResult, workflowBrief, workflowFull } from "./workflow-schemas.ts";

/** Characters at scale 1 (`shrinkToFit`) of one result, of the metadata and of an error. */
const RESULT_SHOWN = 400;
const METADATA_SHOWN = 400;
const ERROR_SHOWN = 200;
/** Bytes for the results of a page. */
const RESULTS_BYTES = 12_000;

function shortError(error: WorkflowError | undefined, scale: number): WorkflowError | undefined {
  if (error?.message === undefined) return error;
  return { ...error, message: cut(error.message, Math.ceil(ERROR_SHOWN * scale)).text };
}

/** A workflow in a list, or as the answer to a step: its metadata is for get_workflow_status. */
export function briefWorkflow(workflow: WorkflowRecord, scale = 1): z.input<ReturnType<typeof workflowBrief>> {
  const { metadata: _, error, rollbackError, ...rest } = workflow;
  const failure = shortError(error, scale);
  const rollbackFailure = shortError(rollbackError, scale);
  return {
    ...rest,
    ...(failure === undefined ? {} : { error: failure }),
    ...(rollbackFailure === undefined ? {} : { rollbackError: rollbackFailure }),
  };
}

export function fullWorkflow(workflow: WorkflowStatus["workflow"], scale = 1): z.input<ReturnType<typeof workflowFull>> {
  const { success, totalTasks, completedTasks, failedTasks, byStatus, progress, metadata } = workflow;
  const counts = { success, totalTasks, completedTasks, failedTasks, byStatus, progress };
  if (metadata === undefined) return { ...briefWorkflow(workflow, scale), ...counts };
  const { text, cutChars } = cut(JSON.stringify(metadata), Math.ceil(METADATA_SHOWN * scale));
  return { ...briefWorkflow(workflow, scale), ...counts, metadata: cutChars === undefined ? metadata : text };
}

/** All results of a page, long ones cut. */
export function resultsView({ results }: Pick<WorkflowStatus, "results">, scale = 1): z.input<ReturnType<typeof taskResult>>[] {
  return results.map((result) => {
    if (result.output === undefined) return result;
    const asText = typeof result.output === "string" ? result.output : JSON.stringify(result.output);
    const { text, cutChars } = cut(asText, Math.ceil(RESULT_SHOWN * scale));
    if (cutChars === undefined) return result;
    return { ...result, output: text, cut: `get_task {"taskId":"${result.taskId}","field":"output","offset":${text.length}}` };
  });
}

/** How many of the results fit an answer, at least one. */
export function fittingResults(shown: readonly z.input<ReturnType<typeof taskResult>>[]): number {
  return fit(shown, RESULTS_BYTES).length;
}

/** Characters shown of a template's description and of a parameter's default. */
const TEMPLATE_DESCRIPTION_SHOWN = 300;
const DEFAULT_SHOWN = 100;
/** Bytes of one template's parameters; the names go before what is said of them. */
const PARAMETERS_BYTES = 8_000;

/** As many templates as fit an answer, at least one. */
export function templatesView(templates: readonly TemplateRecord[]): z.input<ReturnType<typeof template>>[] {
  return fit(templates.map(templateView));
}

function templateView(record: TemplateRecord): z.input<ReturnType<typeof template>> {
  const { id, name, description, onFailure, totalTasks, version, savedAt, savedBy } = record;
  const whole = record.parameters.map(parameterView);
  const fits = Buffer.byteLength(JSON.stringify(whole)) <= PARAMETERS_BYTES;
  const named = whole.map(({ name, type, required }) => ({ name, type, ...(required === undefined ? {} : { required }) }));
  return {
    ...{ id, name, totalTasks, version, savedAt, savedBy },
    ...(description === undefined ? {} : { description: cut(description, TEMPLATE_DESCRIPTION_SHOWN).text }),
    ...(onFailure === undefined ? {} : { onFailure }),
    parameters: fits ? whole : named,
  };
}

function parameterView({ name, type, required, default: fallback, description, values }: TemplateParameter) {
  return {
    name,
    type,
    ...(required === undefined ? {} : { required }),
    ...(fallback === undefined ? {} : { default: typeof fallback === "string" ? cut(fallback, DEFAULT_SHOWN).text : fallback }),
    ...(description === undefined ? {} : { description }),
    ...(values === undefined ? {} : { values: [...values] }),
  };
}
