"""From a quantised network to hardware: the `Design`, its emitters and the RTL library."""
