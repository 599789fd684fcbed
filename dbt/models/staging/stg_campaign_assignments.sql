{{ staged('campaign_assignments') }}
