package rpc

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

const errorDomain = "mekong"

// ToStatus maps an error to what travels over gRPC: a code for its kind, its sentence, and its own code in ErrorInfo.
func ToStatus(err error) *status.Status {
	if s, ok := status.FromError(err); ok {
		return s
	}
	s := status.New(codeOf(err), errs.MessageOf(err))
	info := &errdetails.ErrorInfo{Reason: errs.CodeOf(err), Domain: errorDomain}
	if after := errs.RetryAfterOf(err); after > 0 {
		if withDetails, dErr := s.WithDetails(info, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); dErr == nil {
			return withDetails
		}
	}
	if withDetails, dErr := s.WithDetails(info); dErr == nil {
		return withDetails
	}
	return s
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	switch errs.KindOf(err) {
	case errs.Invalid:
		return codes.InvalidArgument
	case errs.Unauthenticated:
		return codes.Unauthenticated
	case errs.Forbidden:
		return codes.PermissionDenied
	case errs.NotFound:
		return codes.NotFound
	case errs.Conflict:
		return codes.AlreadyExists
	case errs.Precondition:
		return codes.FailedPrecondition
	case errs.RateLimited:
		return codes.ResourceExhausted
	case errs.Unavailable:
		return codes.Unavailable
	default:
		return codes.Internal
	}
}

// FromStatus maps what came over gRPC back to an error with a kind; nil stays nil.
func FromStatus(err error) error {
	var known *errs.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	kind := kindOf(s.Code())
	result := errs.Wrap(err, kind, kind.String(), s.Message())
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == errorDomain {
				result.Code = d.GetReason()
			}
		case *errdetails.RetryInfo:
			result.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return result
}

func kindOf(code codes.Code) errs.Kind {
	switch code {
	case codes.InvalidArgument, codes.OutOfRange:
		return errs.Invalid
	case codes.Unauthenticated:
		return errs.Unauthenticated
	case codes.PermissionDenied:
		return errs.Forbidden
	case codes.NotFound:
		return errs.NotFound
	case codes.AlreadyExists, codes.Aborted:
		return errs.Conflict
	case codes.FailedPrecondition:
		return errs.Precondition
	case codes.ResourceExhausted:
		return errs.RateLimited
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return errs.Unavailable
	default:
		return errs.Internal
	}
}
