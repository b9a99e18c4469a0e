package VidgenTest::Http::Message;

# HTTP/1.1 messages as bytes: made, and taken off a buffer.

use strict;
use warnings;

my %reason = (
    200 => 'OK', 201 => 'Created', 202 => 'Accepted', 204 => 'No Content',
    301 => 'Moved Permanently', 302 => 'Found', 400 => 'Bad Request',
    401 => 'Unauthorized', 402 => 'Payment Required', 403 => 'Forbidden',
    404 => 'Not Found', 408 => 'Request Timeout', 409 => 'Conflict',
    413 => 'Content Too Large', 415 => 'Unsupported Media Type',
    422 => 'Unprocessable Content', 429 => 'Too Many Requests',
    500 => 'Internal Server Error', 501 => 'Not Implemented',
    502 => 'Bad Gateway', 503 => 'Service Unavailable',
    504 => 'Gateway Timeout',
);


# The bytes of a request and the "host:port" that they go to.  The headers are
# a hash, or a list of names and values where one name comes twice.
sub request {
    my ($method, $url, $headers, $body, %opt) = @_;

    my ($address, $uri) = $url =~ m{^https?://([^/?]+)(.*)$}s
        or die "not a URL: $url";
    $uri = "/$uri" if $uri !~ m{^/};

    my @headers = ref $headers eq 'ARRAY' ? @$headers
        : map { $_ => $headers->{$_} } sort keys %{ $headers // {} };

    my $head = "$method $uri HTTP/1.1\r\n";
    $head .= "Host: $address\r\n" unless _has('Host', @headers);
    $head .= "Connection: close\r\n" unless $opt{keep};
    $head .= 'Content-Length: ' . length($body) . "\r\n"
        if defined $body && !_has('Content-Length', @headers)
            && !_has('Transfer-Encoding', @headers);

    while (my ($name, $value) = splice @headers, 0, 2) {
        $head .= "$name: $value\r\n";
    }

    $address .= ':80' if $address !~ /:\d+$/;
    return ($address, "$head\r\n" . ($body // ''));
}

sub _has {
    my ($wanted, @headers) = @_;
    my @names = map { $headers[$_ * 2] } 0 .. @headers / 2 - 1;
    return grep { lc $_ eq lc $wanted } @names;
}


sub response {
    my ($status, $headers, $body) = @_;

    my $head = "HTTP/1.1 $status " . ($reason{$status} // 'Unknown') . "\r\n";
    $head .= 'Content-Length: ' . length($body) . "\r\n"
        unless grep { /^(?:Content-Length|Transfer-Encoding)$/i }
            keys %$headers;
    $head .= "$_: $headers->{$_}\r\n" for sort keys %$headers;
    return "$head\r\n$body";
}


# Takes a complete request off the buffer: { method, uri, headers, body }, or
# nothing while it is incomplete.
sub take_request {
    my ($buffer) = @_;

    my ($length, $line, $headers) = _head($buffer) or return;
    my ($method, $uri) = split / /, $line;
    my $body = _body($buffer, $length, $headers, 0) // return;
    return { method => $method, uri => $uri, headers => $headers,
        body => $body };
}


# Takes a response; $ended: the connection has ended, so what there is must
# do.  A response that stops too early has { truncated => 1 }.
sub take_response {
    my ($buffer, $ended, $no_body) = @_;

    my ($length, $line, $headers);

    while (1) {
        ($length, $line, $headers) = _head($buffer) or return;
        last if $line !~ /^HTTP\S+ 1\d\d/;
        substr $$buffer, 0, $length, '';
    }

    my ($status, $reason) = $line =~ m{^HTTP/\S+ (\d+) ?(.*)};
    my $response = { status => $status // 0, reason => $reason,
        headers => $headers };

    $no_body ||= ($status // 0) == 204 || ($status // 0) == 304;
    my $body = $no_body ? '' : _body($buffer, $length, $headers, 1);

    if (!defined $body) {
        return unless $ended;
        $body = substr $$buffer, $length;
        $response->{truncated} = 1 if _framed($headers);
    }

    $response->{body} = $body;
    return $response;
}


# The length of the head with its empty line, its first line, its headers; a
# header that comes several times has its values joined with ", ".
sub _head {
    my ($buffer) = @_;

    my $end = index $$buffer, "\r\n\r\n";
    return if $end < 0;

    my ($line, @lines) = split /\r\n/, substr $$buffer, 0, $end;
    my %headers;
    for (@lines) {
        my ($name, $value) = /^([^:]+):\s*(.*)$/ or next;
        $name = lc $name;
        $headers{$name} = exists $headers{$name}
            ? "$headers{$name}, $value" : $value;
    }
    return ($end + 4, $line, \%headers);
}

sub _framed {
    my ($headers) = @_;
    return exists $headers->{'content-length'}
        || ($headers->{'transfer-encoding'} // '') =~ /chunked/;
}

# The body, taken off the buffer together with the head; undef: incomplete.
sub _body {
    my ($buffer, $head, $headers, $until_end) = @_;

    if (($headers->{'transfer-encoding'} // '') =~ /chunked/i) {
        return _chunked($buffer, $head);
    }

    my $length = $headers->{'content-length'};
    return undef if !defined $length && $until_end;
    $length //= 0;
    return undef if length $$buffer < $head + $length;
    return substr substr($$buffer, 0, $head + $length, ''), $head;
}

sub _chunked {
    my ($buffer, $position) = @_;

    my $body = '';
    while (1) {
        pos($$buffer) = $position;
        $$buffer =~ /\G([0-9a-f]+)[^\r\n]*\r\n/gci or return undef;
        my $size = hex $1;
        $position = pos $$buffer;
        return undef if length $$buffer < $position + $size + 2;
        $body .= substr $$buffer, $position, $size;
        $position += $size + 2;
        last if $size == 0;
    }
    substr $$buffer, 0, $position, '';
    return $body;
}


1;
