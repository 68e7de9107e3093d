// A client in another language, generated from the descriptors that a server reflects.
//
//     node client.js HOST:PORT DESCRIPTOR_SET     prints what it found, as JSON

const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, descriptors] = process.argv.slice(2);
const definition = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(descriptors), {
  keepCase: true,
  longs: Number,
});
const { MetadataStoreService } = grpc.loadPackageDefinition(definition).ml_metadata;
const client = new MetadataStoreService(address, grpc.credentials.createInsecure());

function call(method, request) {
  return new Promise((resolve) =>
    client[method](request, { deadline: Date.now() + 20000 }, (error, response) =>
      resolve(error ? { code: error.code, details: error.details } : response),
    ),
  );
}

// proto-loader takes the maps of a descriptor for what they are on the wire: lists of entries.
async function main() {
  const { type_id } = await call("PutArtifactType", {
    artifact_type: { name: "JsModel", properties: [{ key: "depth", value: "INT" }] },
  });
  const { artifact_ids } = await call("PutArtifacts", {
    artifacts: [{ type_id, uri: "s3://ü", custom_properties: [{ key: "auc", value: { double_value: 0.5 } }] }],
  });
  const { artifacts } = await call("GetArtifactsByID", { artifact_ids });
  const refused = await call("PutArtifacts", { artifacts: [{ type_id: 999, uri: "x" }] });
  console.log(JSON.stringify({ uri: artifacts[0].uri, type: artifacts[0].type, refused }));
  client.close();
}

main();
