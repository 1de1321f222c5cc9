/** The stubs of Reflexio and what goes with them; README.md shows how to use them. */
export * from "./google/rpc/error_details_pb.js";
export * from "./reflexio/v1/auth_pb.js";
export * from "./reflexio/v1/auth_service_pb.js";
export * from "./reflexio/v1/error_reason_pb.js";
export * from "./reflexio/v1/interaction_pb.js";
export * from "./reflexio/v1/interaction_service_pb.js";
export * from "./bulk.js";
