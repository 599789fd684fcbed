{{ staged('identity_decisions') }}
