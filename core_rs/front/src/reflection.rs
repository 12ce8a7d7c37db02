//! Reflection: the contract for tools that have no copy of it.
//!
//! Owns: both versions of the protocol, which differ in their package's name only. Must not: decide
//! who may ask. Where next: `dispatch.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{
    ErrorResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse,
};

use crate::framing::Messages;
use crate::reply::Responses;

/// A tool asks its next question sooner.
const QUESTION_WAIT: Duration = Duration::from_secs(60);

/// The files, and what is declared where.
pub(crate) struct Reflection {
    services: Vec<String>,
    files: HashMap<String, Arc<FileDescriptorProto>>,
    symbols: HashMap<String, Arc<FileDescriptorProto>>,
}

impl Reflection {
    /// Reads serialized sets of files; tells of these services.
    ///
    /// # Errors
    /// A set does not read.
    pub(crate) fn new(sets: &[&[u8]], services: Vec<String>) -> Result<Self, prost::DecodeError> {
        let mut reflection = Self {
            services,
            files: HashMap::new(),
            symbols: HashMap::new(),
        };
        for set in sets {
            for file in FileDescriptorSet::decode(*set)?.file {
                reflection.add(file);
            }
        }
        Ok(reflection)
    }

    fn add(&mut self, file: FileDescriptorProto) {
        let file = Arc::new(file);
        let mut names = Vec::new();
        let package = file.package();
        for message in &file.message_type {
            names_of(package, message, &mut names);
        }
        names.extend(file.enum_type.iter().map(|it| join(package, it.name())));
        for service in &file.service {
            let name = join(package, service.name());
            names.extend(service.method.iter().map(|it| join(&name, it.name())));
            names.push(name);
        }
        for name in names {
            self.symbols.insert(name, Arc::clone(&file));
        }
        self.files.insert(file.name().to_owned(), file);
    }

    fn respond(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let message = match &request.message_request {
            Some(MessageRequest::ListServices(_)) => {
                let service = self.services.iter().cloned();
                let service = service.map(|name| ServiceResponse { name }).collect();
                MessageResponse::ListServicesResponse(ListServiceResponse { service })
            }
            Some(MessageRequest::FileByFilename(name)) => file_or_not(self.files.get(name)),
            Some(MessageRequest::FileContainingSymbol(name)) => file_or_not(self.symbols.get(name)),
            // There are no extensions in the contract.
            Some(
                MessageRequest::FileContainingExtension(_)
                | MessageRequest::AllExtensionNumbersOfType(_),
            )
            | None => file_or_not(None),
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(message),
        }
    }

    /// Answers the questions of one call, in order.
    pub(crate) fn serve(
        self: &Arc<Self>,
        mut questions: Messages<Incoming>,
        place: OwnedSemaphorePermit,
    ) -> Responses {
        let (replies, responses) = mpsc::channel(1);
        let reflection = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(reply) = reflection.next(&mut questions).await {
                let is_last = reply.is_err();
                if replies.send(reply).await.is_err() || is_last {
                    break;
                }
            }
            drop(place);
        });
        responses
    }

    async fn next(&self, questions: &mut Messages<Incoming>) -> Option<Result<Bytes, Status>> {
        let Ok(question) = tokio::time::timeout(QUESTION_WAIT, questions.next()).await else {
            return Some(Err(Status::unavailable("no question came, ask again")));
        };
        let question = match question {
            Ok(question) => question?,
            Err(status) => return Some(Err(status)),
        };
        Some(match ServerReflectionRequest::decode(question) {
            Ok(request) => Ok(self.respond(request).encode_to_vec().into()),
            Err(_) => Err(Status::invalid_argument(
                "this is no ServerReflectionRequest",
            )),
        })
    }
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        return name.to_owned();
    }
    format!("{scope}.{name}")
}

fn names_of(scope: &str, message: &DescriptorProto, names: &mut Vec<String>) {
    let name = join(scope, message.name());
    // Nested as deep as the contract, which is ours, not a caller's.
    for nested in &message.nested_type {
        names_of(&name, nested, names);
    }
    names.extend(message.enum_type.iter().map(|it| join(&name, it.name())));
    names.extend(message.field.iter().map(|it| join(&name, it.name())));
    names.push(name);
}

fn file_or_not(file: Option<&Arc<FileDescriptorProto>>) -> MessageResponse {
    match file {
        Some(file) => MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto: vec![file.encode_to_vec()],
        }),
        None => MessageResponse::ErrorResponse(ErrorResponse {
            error_code: Code::NotFound as i32,
            error_message: "there is nothing of that name here, list the services first".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(question: MessageRequest) -> Option<MessageResponse> {
        let services = vec!["lastunit.stock.v1.StockService".to_owned()];
        let sets = [lastunit_wire::FILE_DESCRIPTOR_SET];
        let reflection = Reflection::new(&sets, services).expect("the contract reads");
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        reflection.respond(request).message_response
    }

    #[test]
    fn services_methods_messages_and_enums_are_found() {
        for name in [
            "StockService",
            "StockService.Reserve",
            "Line",
            "Line.sku",
            "Outcome",
        ] {
            let name = format!("lastunit.stock.v1.{name}");
            let found = ask(MessageRequest::FileContainingSymbol(name.clone()));
            assert!(
                matches!(found, Some(MessageResponse::FileDescriptorResponse(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn each_import_is_found_by_its_name() {
        let sets = FileDescriptorSet::decode(lastunit_wire::FILE_DESCRIPTOR_SET).expect("reads");
        for import in sets.file.iter().flat_map(|file| &file.dependency) {
            let found = ask(MessageRequest::FileByFilename(import.clone()));
            assert!(
                matches!(found, Some(MessageResponse::FileDescriptorResponse(_))),
                "{import}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_an_answer_and_not_the_end() {
        let unknown = MessageRequest::FileContainingSymbol("lastunit.stock.v1.Nothing".to_owned());
        for question in [
            unknown,
            MessageRequest::AllExtensionNumbersOfType(String::new()),
        ] {
            assert!(matches!(
                ask(question),
                Some(MessageResponse::ErrorResponse(_))
            ));
        }
    }
}
