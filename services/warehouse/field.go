package warehouse

// field is a text column that is found in the documents of an event.
type field uint8

const (
	fieldSessionID field = iota
	fieldPageURL
	fieldPagePath
	fieldPageTitle
	fieldReferrer
	fieldUTMSource
	fieldUTMMedium
	fieldUTMCampaign
	fieldUTMTerm
	fieldUTMContent
	fieldClickID
	fieldDeviceType
	fieldOS
	fieldBrowser
	fieldCountry
	fieldRegion
	fieldCity
	fieldLocale
	fieldProductID
	fieldCategory
	fieldCurrency
	fieldOrderID
	fieldSearchQuery
	textFields
)

// Amounts are kept as their text until the whole event is known.
const (
	fieldPrice = textFields + iota
	fieldQuantity
	fieldRevenue
	fieldLinePrice
	fieldLineQuantity
	fieldLineProduct
	allFields
)

// place says which field a path of a document fills. Of several places the highest rank wins, and the last of equals.
type place struct {
	field field
	rank  uint8
}

// places maps a path to its field; "[]" stands for any element of an array.
type places map[string]place

// newPropertyPlaces knows Segment's names and those of the shop contract.
func newPropertyPlaces() places {
	p := places{
		"session_id": {fieldSessionID, 2}, "$session_id": {fieldSessionID, 1},
		"page_url": {fieldPageURL, 3}, "$current_url": {fieldPageURL, 2}, "url": {fieldPageURL, 1},
		"page_path": {fieldPagePath, 2}, "path": {fieldPagePath, 1}, "$pathname": {fieldPagePath, 1},
		"page_title": {fieldPageTitle, 2}, "title": {fieldPageTitle, 1},
		"referrer": {fieldReferrer, 2}, "$referrer": {fieldReferrer, 1},
		"utm_source": {fieldUTMSource, 1}, "utm_medium": {fieldUTMMedium, 1}, "utm_campaign": {fieldUTMCampaign, 1},
		"utm_term": {fieldUTMTerm, 1}, "utm_content": {fieldUTMContent, 1},
		"gclid": {fieldClickID, 1}, "fbclid": {fieldClickID, 1}, "ttclid": {fieldClickID, 1}, "msclkid": {fieldClickID, 1},
		"device.type": {fieldDeviceType, 2}, "device_type": {fieldDeviceType, 1}, "$device_type": {fieldDeviceType, 1},
		"$os": {fieldOS, 1}, "$browser": {fieldBrowser, 1},
		"geo.country": {fieldCountry, 2}, "geo.region": {fieldRegion, 2}, "geo.city": {fieldCity, 2},
		"locale":             {fieldLocale, 1},
		"props.order_id":     {fieldOrderID, 1},
		"props.search_query": {fieldSearchQuery, 3}, "search_query": {fieldSearchQuery, 2}, "query": {fieldSearchQuery, 1},
	}
	for _, prefix := range []string{"", "ecom."} {
		for path, at := range map[string]place{
			"product_id": {fieldProductID, 2}, "sku": {fieldProductID, 1},
			"category": {fieldCategory, 2}, "currency": {fieldCurrency, 2}, "price": {fieldPrice, 2},
			"quantity": {fieldQuantity, 2}, "qty": {fieldQuantity, 1},
			"order_id": {fieldOrderID, 3}, "orderId": {fieldOrderID, 2},
			"revenue": {fieldRevenue, 3}, "total": {fieldRevenue, 2},
			"products[].price": {fieldLinePrice, 1}, "products[].quantity": {fieldLineQuantity, 2}, "products[].qty": {fieldLineQuantity, 1},
			"products[].product_id": {fieldLineProduct, 2}, "products[].sku": {fieldLineProduct, 1},
		} {
			p[prefix+path] = at
		}
	}
	return p
}

func newContextPlaces() places {
	return places{
		"session_id": {fieldSessionID, 3}, "sessionId": {fieldSessionID, 3},
		"page.url": {fieldPageURL, 4}, "page_url": {fieldPageURL, 3},
		"page.path": {fieldPagePath, 4}, "page.title": {fieldPageTitle, 4},
		"page.referrer": {fieldReferrer, 4}, "referrer": {fieldReferrer, 3}, "referrer.url": {fieldReferrer, 1},
		"campaign.source": {fieldUTMSource, 2}, "campaign.medium": {fieldUTMMedium, 2}, "campaign.name": {fieldUTMCampaign, 2},
		"campaign.term": {fieldUTMTerm, 2}, "campaign.content": {fieldUTMContent, 2},
		"device.type": {fieldDeviceType, 3}, "os.name": {fieldOS, 2}, "browser.name": {fieldBrowser, 2},
		"geo.country": {fieldCountry, 4}, "geo.region": {fieldRegion, 4}, "geo.city": {fieldCity, 4},
		"location.country": {fieldCountry, 3}, "location.region": {fieldRegion, 3}, "location.city": {fieldCity, 3},
		"locale": {fieldLocale, 2},
	}
}

// isLine tells whether path is a line of an order.
func isLine(path []byte) bool {
	return string(path) == "products[]" || string(path) == "ecom.products[]"
}

// isConsent tells whether path holds the choices of the person, by purpose.
func isConsent(path []byte) bool {
	return string(path) == "consent.categoryPreferences"
}
