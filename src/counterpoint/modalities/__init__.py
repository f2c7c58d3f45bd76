"""What an item is, one file per modality; `counterpoint.modalities.base` finds them."""
