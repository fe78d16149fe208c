/**
 * Profiles that come with the package: what the framework's own agents do, as calls of the servers that do it. An operator names the
 * server; tools and arguments are the real servers' own.
 */
import type { OperationInput } from "./mcp-config.ts";

/** Sequential thinking records numbered thoughts and thinks nothing itself: an operation says which thoughts a task consists of. */
const think = (thoughts: string, thought: string): OperationInput["steps"] => [
  {
    name: "thinking",
    tool: "sequentialthinking",
    forEach: `{{${thoughts}}}`,
    arguments: {
      thought,
      thoughtNumber: "{{number}}",
      totalThoughts: "{{total}}",
      nextThoughtNeeded: "{{more}}",
    },
  },
];

const coordination: Record<string, OperationInput> = {
  structured_reasoning: {
    description: "Records the thoughts of parameters.thoughts (else the lines of the description) one after another",
    steps: think("parameters.thoughts ?? task.description | lines", "{{item}}"),
    result: { thoughts: "{{parameters.thoughts ?? task.description | lines}}", record: "{{steps.thinking}}" },
  },
  decompose_task: {
    description: "Records each part of parameters.parts (else each line of the description) as a step of the whole",
    steps: think("parameters.parts ?? task.description | lines", "Part {{number}} of {{total}}: {{item}}"),
    result: { parts: "{{parameters.parts ?? task.description | lines}}", record: "{{steps.thinking}}" },
  },
  synthesize_results: {
    description: "Brings together parameters.results (else what the tasks before it brought)",
    steps: think("parameters.results ?? context", "Result {{number}} of {{total}}: {{item}}"),
    result: {
      goal: "{{task.description ?? omit}}",
      results: "{{parameters.results ?? context}}",
      record: "{{steps.thinking}}",
    },
  },
  coordinate_workflow: {
    description: "Records the order of parameters.steps (else of the lines of the description)",
    steps: think("parameters.steps ?? task.description | lines", "Step {{number}} of {{total}}: {{item}}"),
    result: { steps: "{{parameters.steps ?? task.description | lines}}", record: "{{steps.thinking}}" },
  },
};

const QUERY = "{{parameters.query ?? task.description}}";
const ask = (tool: string, system: string, more: Record<string, string> = {}): OperationInput["steps"] => [
  {
    tool,
    arguments: {
      messages: [
        { role: "system", content: system },
        { role: "user", content: QUERY },
      ],
      ...more,
    },
  },
];
const FILTERS = {
  search_recency_filter: "{{parameters.recency ?? omit}}",
  search_domain_filter: "{{parameters.domains ?? omit}}",
};

const research: Record<string, OperationInput> = {
  research: {
    description: "Deep research on parameters.query (else the description), with sources; it takes minutes",
    steps: ask("perplexity_research", "Research this thoroughly. Name the source of every claim."),
  },
  verify_facts: {
    description: "Says of each claim in parameters.query (else the description) whether it holds, with sources",
    steps: ask("perplexity_reason", "Say of each claim whether it is true, false or unproven, and name the sources.", FILTERS),
  },
  current_information: {
    description:
      "What is known now about parameters.query (else the description); parameters.recency: hour, day, week, month, year",
    steps: ask("perplexity_ask", "Answer from recent sources and say how recent they are.", {
      ...FILTERS,
      search_recency_filter: '{{parameters.recency ?? "month"}}',
    }),
  },
  expert_analysis: {
    description: "Analyses parameters.query (else the description) step by step",
    steps: ask("perplexity_reason", "Analyse this as an expert in the field: assumptions, reasoning, conclusion.", FILTERS),
  },
};

const PROJECT = "{{parameters.projectId}}";

const supabase: Record<string, OperationInput> = {
  execute_sql: {
    description: "Runs parameters.sql in the project parameters.projectId",
    steps: [{ tool: "execute_sql", arguments: { project_id: PROJECT, query: "{{parameters.sql}}" } }],
  },
  manage_projects: {
    description: "Lists the projects",
    steps: [{ tool: "list_projects", arguments: {} }],
  },
  deploy_function: {
    description: "Deploys the Edge Function parameters.name from parameters.files, a list of {name, content}",
    steps: [
      {
        tool: "deploy_edge_function",
        arguments: {
          project_id: PROJECT,
          name: "{{parameters.name}}",
          entrypoint_path: '{{parameters.entrypoint ?? "index.ts"}}',
          verify_jwt: "{{parameters.verifyJwt ?? true}}",
          files: "{{parameters.files}}",
        },
      },
    ],
  },
  realtime_subscriptions: {
    description:
      "Publishes changes of the table parameters.table (schema parameters.schema, else public) to real-time subscribers",
    steps: [
      {
        tool: "execute_sql",
        arguments: {
          project_id: PROJECT,
          query:
            'alter publication supabase_realtime add table {{parameters.schema ?? "public" | identifier}}.{{parameters.table | identifier}}',
        },
      },
    ],
  },
};

const postgres: Record<string, OperationInput> = {
  execute_sql: {
    description: "Runs parameters.sql, which may only read, in the server's database",
    steps: [{ tool: "query", arguments: { sql: "{{parameters.sql}}" } }],
  },
};

/** By the name that an operator's profile `uses`. */
export const BUILTIN_PROFILES: Readonly<Record<string, Readonly<Record<string, OperationInput>>>> = {
  coordination,
  research,
  supabase,
  postgres,
};
