// What README.md shows, in one program.
import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import {
  AuthService,
  BadRequestSchema,
  ErrorInfoSchema,
  InteractionService,
  PublishInteractionsRequestSchema,
  PublishInteractionStreamRequestSchema,
  RetryInfoSchema,
  UserAction,
  WaitUntil,
} from "reflexio";

const email = process.env["REFLEXIO_EMAIL"]!;
const password = process.env["REFLEXIO_PASSWORD"]!;

const baseUrl = `http://${process.env["REFLEXIO_ADDRESS"]}`;
const { apiKey } = await createClient(AuthService, createGrpcTransport({ baseUrl })).login({ email, password });
const withKey: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${apiKey}`);
  return next(request);
};
const transport = createGrpcTransport({
  baseUrl,
  interceptors: [withKey],
  defaultTimeoutMs: 30_000,
  nodeOptions: { maxSessionMemory: 64 }, // MB; the default of 10 is too little for large pictures
});
const me = await createClient(AuthService, transport).whoAmI({});
console.log("logged in as", me.account?.email);

const client = createClient(InteractionService, transport);
const run = Date.now().toString(16); // ids are yours to make, and are never used for something else
const request = create(PublishInteractionsRequestSchema, {
  userId: "ada",
  requestId: `parcel-4711_${run}`,
  requestGroup: "parcel-4711",
  source: "support_chat",
  waitUntil: WaitUntil.SEARCHABLE,
  interactions: [
    { role: "User", content: "My parcel never arrived.", createdAt: timestampNow() },
    { role: "Agent", content: "I am sorry!", createdAt: timestampNow() },
  ],
});
const published = await client.publishInteractions(request);
console.log("published", published.interactionIds.length, "interactions");
const again = await client.publishInteractions(request); // as after a lost answer: the very same message
console.log("sent again, and stored before:", again.replayed);

async function* clicks() {
  for (let i = 0; i < 3; i++) {
    const click = { userId: "ada", requestId: `clicks-${run}_${i}`, interactions: [{ userAction: UserAction.CLICK }] };
    yield create(PublishInteractionStreamRequestSchema, { request: click });
  }
}
const { requests } = await client.publishInteractionStream(clicks());
console.log(`streamed: ${requests?.stored} stored, ${requests?.duplicate} duplicate, ${requests?.rejected} rejected`);

const { hits } = await client.searchInteractions({
  userId: "ada", // left out: the whole account
  query: "lost delivery",
  topK: 1,
  filter: { roles: ["User"] },
});
for (const { score, interaction } of hits) {
  console.log(`${score.toFixed(2)} ${interaction?.role}: ${interaction?.content}`);
}

const { erased } = await client.deleteUser({ userId: "ada" });
console.log(`erased: ${erased?.requests} requests, ${erased?.interactions} interactions`);

try {
  await client.publishInteractions({});
} catch (caught) {
  const error = ConnectError.from(caught);
  console.log("refused:", Code[error.code], error.rawMessage);
  for (const { reason } of error.findDetails(ErrorInfoSchema)) {
    console.log("reason:", reason);
  }
  for (const { field, description } of error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations)) {
    console.log(`field: ${field}: ${description}`);
  }
  for (const { retryDelay } of error.findDetails(RetryInfoSchema)) {
    console.log("try again after", retryDelay?.seconds, "seconds");
  }
}
