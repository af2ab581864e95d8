package warehouse

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	warehousev1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/warehouse/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/tenant"
)

// HashScanner reads event hashes back.
type HashScanner interface {
	// ScanHashes calls yield with blocks of at most scanBlock hashes and the first offset of each, of the partition's
	// offsets from (inclusive) to to (exclusive). yield must not keep the slices.
	ScanHashes(ctx context.Context, partition int32, from, to int64, yield func(hashes [][]byte, offsets []int64) error) error
}

// server implements WarehouseService, for other services of the installation only: its answers mix tenants.
type server struct {
	warehousev1.UnimplementedWarehouseServiceServer

	ledger Ledger
	hashes HashScanner
}

// ScanEventHashes implements WarehouseServiceServer.
func (s *server) ScanEventHashes(req *warehousev1.ScanEventHashesRequest, out grpc.ServerStreamingServer[warehousev1.ScanEventHashesResponse]) error {
	if err := requireService(out.Context()); err != nil {
		return err
	}
	if req.GetSrcPartition() < 0 || req.GetFromOffset() < 0 || req.GetToOffset() <= req.GetFromOffset() {
		return errs.New(errs.Invalid, "range_invalid", "give a partition of at least 0 and offsets with from_offset below to_offset")
	}
	return s.hashes.ScanHashes(out.Context(), req.GetSrcPartition(), req.GetFromOffset(), req.GetToOffset(),
		func(hashes [][]byte, offsets []int64) error {
			return out.Send(&warehousev1.ScanEventHashesResponse{
				EventHashes: slices.Concat(hashes...), FirstOffsets: slices.Clone(offsets),
			})
		})
}

// GetWatermarks implements WarehouseServiceServer.
func (s *server) GetWatermarks(ctx context.Context, _ *warehousev1.GetWatermarksRequest) (*warehousev1.GetWatermarksResponse, error) {
	if err := requireService(ctx); err != nil {
		return nil, err
	}
	marks, err := s.ledger.Watermarks(ctx)
	if err != nil {
		return nil, err
	}
	res := &warehousev1.GetWatermarksResponse{}
	for partition, mark := range marks {
		if mark.Offset != noOffset {
			res.Watermarks = append(res.Watermarks, &warehousev1.Watermark{SrcPartition: partition, SrcOffset: mark.Offset})
		}
	}
	slices.SortFunc(res.Watermarks, func(a, b *warehousev1.Watermark) int { return int(a.SrcPartition - b.SrcPartition) })
	return res, nil
}

func requireService(ctx context.Context) error {
	p, ok := tenant.From(ctx)
	if !ok {
		return tenant.ErrUnauthenticated()
	}
	if !p.Service {
		return errs.New(errs.Forbidden, "services_only", "This call is for the services of the installation, not for API tokens.")
	}
	return nil
}
