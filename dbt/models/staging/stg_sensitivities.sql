{{ staged('sensitivities') }}
