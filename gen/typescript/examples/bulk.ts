// Imports a chat log from standard input, a line for each turn: user, role and text, with tabs between them.
import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createInterface } from "node:readline";
import { InteractionService, publishMany, PublishInteractionsRequestSchema } from "reflexio";

const transport = createGrpcTransport({
  baseUrl: `http://${process.env["REFLEXIO_ADDRESS"]}`,
  nodeOptions: { maxSessionMemory: 64 }, // MB; the default of 10 is too little for large pictures
  interceptors: [
    (next) => (request) => {
      request.header.set("authorization", `Bearer ${process.env["REFLEXIO_API_KEY"]}`);
      return next(request);
    },
  ],
});

// The number of its line names a turn, so that the import can be started again.
async function* turns() {
  let number = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    const [userId, role, ...content] = line.split("\t");
    yield create(PublishInteractionsRequestSchema, {
      userId,
      requestId: `chat-log_${++number}`,
      source: "chat_log",
      interactions: [{ role, content: content.join("\t") }],
    });
  }
}

const { requests } = await publishMany(createClient(InteractionService, transport), turns(), {
  onProgress: ({ requests }) => console.log("settled", requests.stored + requests.duplicate + requests.rejected),
  onRejection: ({ index, reason, message }) => console.log(`rejected line ${index + 1}: ${reason}: ${message}`),
});
console.log(`${requests.stored} stored, ${requests.duplicate} duplicate, ${requests.rejected} rejected`);
