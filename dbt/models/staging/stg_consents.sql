{{ staged('consents') }}
