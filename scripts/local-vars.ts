/**
 * What the local start does otherwise than a deployment. The way of a log line from workerd to a terminal costs a small
 * request a fifth of the throughput (docs/limits.md).
 */
export const LOCAL_VARS = { REQUEST_LOG: "problems" };
