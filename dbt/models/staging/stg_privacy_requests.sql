{{ staged('privacy_requests') }}
