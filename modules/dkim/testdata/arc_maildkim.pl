# seal SELECTOR KEYFILE STATUS: seals the message on standard input for example.org with
# cv=STATUS and the Authentication-Results of mx.example.org in it, and writes the set's
# fields.
# verify ZONE: says the status of the chain of the message on standard input. ZONE is a
# file of JSON: names to texts.
use strict;
use warnings;
use JSON::PP;
use Mail::DKIM::ARC::Signer;
use Mail::DKIM::ARC::Verifier;
use Mail::DKIM::DNS;
use Mail::DKIM::PrivateKey;
use Net::DNS::RR;

binmode STDIN;
binmode STDOUT;
my $message = do { local $/; <STDIN> };
my $command = shift @ARGV;
if ($command eq 'seal') {
    my ($selector, $file, $status) = @ARGV;
    my $arc = Mail::DKIM::ARC::Signer->new(
        Algorithm => 'rsa-sha256', Domain => 'example.org', SrvId => 'mx.example.org', Selector => $selector,
        Chain     => $status, Key => Mail::DKIM::PrivateKey->load(File => $file));
    $arc->PRINT($message);
    $arc->CLOSE;
    print STDERR $arc->{details} if $arc->result ne 'sealed';
    print $arc->as_string =~ s/\s*\z/\015\012/r;
} else {
    open my $f, '<', $ARGV[0] or die;
    my $zone = decode_json(do { local $/; <$f> });
    no warnings 'redefine';
    *Mail::DKIM::DNS::query = sub {
        my ($name) = @_;
        $name =~ s/\.$//;
        my $text = $zone->{$name} or return;
        return Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata => [unpack '(a200)*', $text]);
    };
    my $arc = Mail::DKIM::ARC::Verifier->new;
    $arc->PRINT($message);
    $arc->CLOSE;
    print $arc->result, "\n";
    print STDERR $arc->result_detail, "\n";
}
