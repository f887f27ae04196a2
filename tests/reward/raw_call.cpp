#include "tests/reward/raw_call.h"

#include <cstdint>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

namespace ferro::testing {
namespace {

std::string text_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (buffer.Dump(&slices).ok())
    for (const grpc::Slice& slice : slices)
      text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return text;
}

/// The next event of the queue; false: the operation failed.
bool next(grpc::CompletionQueue& queue) {
  void* tag = nullptr;
  bool ok = false;
  return queue.Next(&tag, &ok) && ok;
}

std::shared_ptr<grpc::Channel> channel_with(const std::string& address,
                                            const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

}  // namespace

std::shared_ptr<grpc::Channel> raw_channel(const std::string& address) {
  return channel_with(address, grpc::InsecureChannelCredentials());
}

std::shared_ptr<grpc::Channel> raw_tls_channel(const std::string& address, const std::string& authority) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = authority;
  return channel_with(address, grpc::SslCredentials(options));
}

RawAnswer raw_call(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                   const std::string& bytes, const RawCallOptions& options) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + options.deadline);
  if (!options.token.empty()) context.AddMetadata("authorization", "Bearer " + options.token);
  if (options.gzip) context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  grpc::CompletionQueue queue;
  void* const tag = &queue;
  RawAnswer answer;
  const auto call = stub.PrepareCall(&context, method, &queue);
  call->StartCall(tag);
  if (next(queue)) {
    const grpc::Slice slice(bytes);
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), tag);
    next(queue);
    for (int i = 0; i < options.wanted_messages; ++i) {
      grpc::ByteBuffer received;
      call->Read(&received, tag);
      if (!next(queue)) break;
      answer.bytes.push_back(text_of(received));
    }
    if (options.wanted_messages > 1) context.TryCancel();
  }
  grpc::Status status;
  call->Finish(&status, tag);
  next(queue);
  answer.code = status.error_code();
  answer.message = status.error_message();
  queue.Shutdown();
  while (next(queue)) {
  }
  return answer;
}

}  // namespace ferro::testing
