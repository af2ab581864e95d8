module github.com/mekong-cdp/mekong/sdk/go

go 1.26
