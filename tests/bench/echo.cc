// The yardstick of the transport: a gRPC callback server in C++ that answers ModelInfer with its own input.
//
// Knows: the inference protocol's messages, made by protoc from the descriptors of tritonclient's stubs.
// Rules: an input of up to 4 KB comes back whole, of a larger one the first 40 bytes (ten FP32 numbers), so
// that a picture costs its way in and no way out. Prints its port. Leaves to others: everything else.

#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <memory>
#include <string>

#include "grpc_service.grpc.pb.h"

namespace {

constexpr std::size_t kWholeBytesMax = 4096;
constexpr std::size_t kPartBytes = 40;

class Echo final : public inference::GRPCInferenceService::CallbackService {
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (request->inputs_size() != 1 || request->raw_input_contents_size() != 1) {
      reactor->Finish({grpc::StatusCode::INVALID_ARGUMENT, "one raw input is expected"});
      return reactor;
    }
    const auto& input = request->inputs(0);
    const std::string& contents = request->raw_input_contents(0);
    response->set_model_name(request->model_name());
    response->set_model_version("1");
    auto* output = response->add_outputs();
    output->set_name("y");
    output->set_datatype(input.datatype());
    if (contents.size() <= kWholeBytesMax) {
      *output->mutable_shape() = input.shape();
      response->add_raw_output_contents(contents);
    } else {
      output->add_shape(1);
      output->add_shape(kPartBytes / sizeof(float));
      response->add_raw_output_contents(contents.substr(0, kPartBytes));
    }
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

}  // namespace

int main() {
  Echo service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(-1);
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) return 1;
  std::printf("%d\n", port);
  std::fflush(stdout);
  server->Wait();
  return 0;
}
