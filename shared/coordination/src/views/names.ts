/** Apart from the texts of the views, which a start does not load. */
export const SQL_VIEW_NAMES = ["agent_coordination", "task_distribution"] as const;
/** Raised with every change of a text. */
export const SQL_VIEWS_VERSION = 1;
